// What is wrong with a control, told beside it.

/** Tell it at every control of a form that is wrong, and go to the first; whether none is. */
export function checkForm(form) {
  const wrong = [...form.elements].filter((control) => tell(control, faultOf(control)));
  if (wrong.length) goTo(wrong[0]);
  return wrong.length === 0;
}

/** Look again at what was wrong, as long as it is. */
export function recheckForm(form) {
  for (const control of form.elements) {
    if (control.ariaInvalid === "true") tell(control, faultOf(control));
  }
}

/** Tell at a control what is wrong with it, or with an empty text that nothing is. */
export function tell(control, message) {
  const id = `${control.id}-fault`;
  document.getElementById(id)?.remove();
  const described = (control.getAttribute("aria-describedby") ?? "").split(" ");
  const others = described.filter((each) => each && each !== id);
  if (message) {
    const text = document.createElement("p");
    text.id = id;
    text.className = "fault";
    text.textContent = message;
    control.after(text);
    others.push(id);
  }
  control.ariaInvalid = message ? "true" : null;
  if (others.length) control.setAttribute("aria-describedby", others.join(" "));
  else control.removeAttribute("aria-describedby");
  return Boolean(message);
}

/** Show a control that is wrong, even in a closed part of the form. */
export function goTo(control) {
  for (let part = control.closest("details"); part; part = part.parentElement.closest("details")) {
    part.open = true;
  }
  control.focus();
}

function faultOf(control) {
  if (!control.willValidate || control.closest("[hidden]")) return "";
  const { validity: is, min, max, value } = control;
  if (is.customError) return control.validationMessage;
  if (is.badInput) return "This is no number.";
  if (is.valueMissing) return "This is missing.";
  if (is.rangeUnderflow || is.rangeOverflow) {
    return max ? `Choose ${min} to ${max}, not ${value}.` : `Choose at least ${min}, not ${value}.`;
  }
  if (is.stepMismatch) return stepFault(control);
  return "";
}

function stepFault(control) {
  const [step, least] = [Number(control.step) || 1, Number(control.min)];
  const below = least + Math.floor((control.valueAsNumber - least) / step) * step;
  const what = step === 1 ? "whole number" : `multiple of ${step}`;
  return `${control.value} is no ${what}: choose ${below} or ${below + step}.`;
}
