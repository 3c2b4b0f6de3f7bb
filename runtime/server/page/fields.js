// Controls are named by their fields in a job's body: "hires.scale" is the scale of its hires.

/** What a form's controls say. Those that are disabled or empty numbers say nothing. */
export function readFields(form) {
  const body = {};
  for (const control of form.elements) {
    if (!control.name || control.matches(":disabled")) continue;
    const value = valueOf(control);
    if (value === undefined) continue;
    const path = control.name.split(".");
    const last = path.pop();
    const place = path.reduce((at, name) => (at[name] ??= {}), body);
    place[last] = value;
  }
  return body;
}

/** Let a form's controls say what a body does, and what they said at first where it says nothing. */
export function writeFields(form, body) {
  for (const control of form.elements) {
    if (!control.name) continue;
    const value = control.name.split(".").reduce((at, name) => at?.[name], body);
    if (control.type === "checkbox") control.checked = value ?? control.defaultChecked;
    else if (control.type === "select-one") choose(control, value ?? firstOf(control));
    else control.value = value ?? control.defaultValue;
  }
}

export function fillSelect(select, values) {
  select.replaceChildren(...values.map((value) => new Option(value, value)));
}

/** Choose a value, which a bundle may know by another name than the list does. */
export function choose(select, value) {
  select.value = value;
  if (select.selectedIndex < 0) {
    select.add(new Option(value, value));
    select.value = value;
  }
}

function firstOf(select) {
  const chosen = [...select.options].find((option) => option.defaultSelected);
  return (chosen ?? select.options[0])?.value ?? "";
}

function valueOf(control) {
  if (control.type === "checkbox") return control.checked;
  if (control.type === "number" || control.type === "range") {
    return control.value === "" ? undefined : control.valueAsNumber;
  }
  if (control.type === "select-one") return control.value || undefined;
  return control.value;
}
