// The page: a key if the server wants one, then the form and the gallery.

import * as api from "./api.js";
import { RequestForm } from "./form.js";
import { Gallery } from "./gallery.js";

const READY_PAUSE = 2000;
const UNAUTHORIZED = 401;
const element = (id) => document.getElementById(id);
let built = false;
const announce = (text) => { element("notice").textContent = text; };

async function start() {
  let served;
  try {
    served = await api.info();
  } catch (error) {
    if (error.status === UNAUTHORIZED) askForKey(error.message);
    else announce(`The server cannot be reached: ${error.message}`);
    return;
  }
  element("forget-key").hidden = !api.hasKey();
  element("key-form").hidden = true;
  announce("");
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
  });
  form.onSubmit(async () => {
    const { body, sketch } = await form.read();
    await submit(form, gallery, body, sketch);
  });
  element("work").hidden = false;
  gallery.restore();
  waitUntilReady();
}

async function submit(form, gallery, body, sketch) {
  form.showFault("");
  try {
    const job = await api.submit(body);
    announce("The job is queued.");
    gallery.add(job, body, sketch);
  } catch (error) {
    if (error.status === UNAUTHORIZED) askForKey(error.message);
    else form.showFault(error.message, error.field);
  }
}

/** Say why the server is not ready, until it is. */
async function waitUntilReady() {
  try {
    for (let reason; (reason = await api.whyNotReady()) !== null; ) {
      announce(`The server is not ready: ${reason}.`);
      await new Promise((resolve) => setTimeout(resolve, READY_PAUSE));
    }
    if (element("notice").textContent.startsWith("The server is not ready")) announce("");
  } catch {
    announce("The server cannot be reached.");
  }
}

function askForKey(message) {
  announce(api.hasKey() ? "The key was refused." : "");
  api.forgetKey();
  element("key-form").hidden = false;
  element("key").setAttribute("aria-description", message);
  element("key").focus();
}

element("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  api.keepKey(element("key").value);
  element("key").value = "";
  start();
});

element("forget-key").addEventListener("click", () => {
  api.forgetKey();
  location.reload();
});

start();
