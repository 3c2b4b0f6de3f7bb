// The page: a key if the server wants one, then the form and the gallery.

import * as api from "./api.js";
import { checkForm, recheckForm, tell } from "./faults.js";
import { RequestForm } from "./form.js";
import { Gallery } from "./gallery.js";
import * as memory from "./memory.js";

const READY_PAUSE = 2000;
const ASCII = /^[ -~]*$/;
const element = (id) => document.getElementById(id);
let built = false;

/** Show what concerns everything; nothing for an empty text. */
const notify = (text) => { element("notice").textContent = text; };
/** Tell those who listen what others see. */
const announce = (text) => { element("spoken").textContent = text; };

async function start() {
  let served;
  try {
    served = await api.info();
  } catch (error) {
    if (error.wantsKey) askForKey();
    else notify(error.message);
    return;
  }
  element("forget-key").hidden = !api.hasKey();
  element("key-form").hidden = true;
  element("work").hidden = false;
  notify("");
  if (!built) build(served);
  built = true;
}

function build(served) {
  element("served").textContent = `${served.bundle} on ${served.device}`;
  const form = new RequestForm(served);
  const gallery = new Gallery({
    announce,
    again: (body, sketch) => submit(form, gallery, body, sketch),
    use: (body, sketch) => form.write(body, sketch),
    change: (file) => form.startFrom(file),
    refused: askForKey,
  });
  form.onSubmit(async () => {
    const { body, sketch } = await form.read();
    await submit(form, gallery, body, sketch);
  });
  gallery.restore();
  watchReadiness();
}

async function submit(form, gallery, body, sketch) {
  form.showFault("");
  try {
    const job = await api.submit(body);
    announce("The job is queued.");
    gallery.add(job, body, sketch);
  } catch (error) {
    if (error.wantsKey) askForKey();
    else form.showFault(error.message, error.field);
  }
}

/** Say why the server is not ready, until it is. */
async function watchReadiness() {
  for (let reason; reason !== null; ) {
    try {
      reason = await api.whyNotReady();
      notify(reason === null ? "" : `The server is not ready: ${reason}.`);
    } catch (error) {
      notify(error.message);
    }
    await new Promise((resolve) => setTimeout(resolve, READY_PAUSE));
  }
}

function askForKey() {
  const refused = api.hasKey();
  api.forgetKey();
  element("key-form").hidden = false;
  tell(element("key"), refused ? "The key was refused." : "");
  element("key").focus();
}

element("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const key = element("key");
  key.setCustomValidity(ASCII.test(key.value) ? "" : "A key has ASCII characters only.");
  if (!checkForm(element("key-form"))) return;
  api.keepKey(key.value);
  key.value = "";
  start();
});

element("key-form").addEventListener("input", () => {
  element("key").setCustomValidity("");
  recheckForm(element("key-form"));
});

element("forget-key").addEventListener("click", () => {
  api.forgetKey();
  memory.forgetAll();
  location.reload();
});

start();
