// The card of a job until its pictures are there.

import * as api from "./api.js";
import { clone } from "./templates.js";

const QUARTERS = 4;

export class JobCard {
  #quarter = 0;
  #lost = false;
  #announce;

  constructor(id, body, announce) {
    this.root = clone("job-card");
    this.#announce = announce;
    this.#part(".prompt").textContent = body.prompt;
    this.#part(".stage").style.aspectRatio = `${body.width} / ${body.height}`;
    this.#part(".cancel").addEventListener("click", () => this.#cancel(id));
  }

  show(event, data) {
    if (event === "preview") this.#showPreview(data.image);
    else if (event === "lost") this.#lose();
    else if (event === "failed") this.fail(data.error.message);
    else if (event === "cancelled") this.#end("Cancelled");
    else this.#progress(data);
  }

  /** Leave the list to what takes the card's place. */
  remove(...successors) {
    URL.revokeObjectURL(this.#part("img")?.src);
    this.root.replaceWith(...successors);
  }

  fail(message) {
    this.#end(message);
    this.#part(".state").classList.add("fault");
  }

  async #cancel(id) {
    const button = this.#part(".cancel");
    button.disabled = true;
    try {
      await api.cancel(id);
    } catch (error) {
      button.disabled = false;
      this.#tell(error.message, true);
    }
  }

  #progress({ state, rows, rows_done: done, seconds_left: left }) {
    const bar = this.#part("progress");
    bar.max = rows;
    bar.value = done;
    const rest = left === null ? "" : `, ${Math.ceil(left)} s left`;
    const shown = state === "queued" ? "Waiting" : `Step ${done} of ${rows}${rest}`;
    this.#tell(shown, false);
    // Every step would drown whoever listens.
    const quarter = Math.floor((QUARTERS * done) / rows);
    if (quarter > this.#quarter && quarter < QUARTERS) this.#announce(shown);
    this.#quarter = quarter;
    this.#lost = false;
  }

  #lose() {
    const message = "The server cannot be reached. Trying again.";
    this.#tell(message, true);
    if (!this.#lost) this.#announce(message);
    this.#lost = true;
  }

  #showPreview(base64) {
    const image = this.#part("img");
    const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
    URL.revokeObjectURL(image.src);
    image.src = URL.createObjectURL(new Blob([bytes]));
    image.alt = "The picture in progress";
    image.hidden = false;
  }

  #end(message) {
    const watched = this.root.contains(document.activeElement);
    this.#part("progress").remove();
    this.#part(".stage").remove();
    const button = this.#part(".cancel");
    const dismiss = button.cloneNode();
    dismiss.className = "dismiss";
    dismiss.disabled = false;
    dismiss.textContent = "Dismiss";
    dismiss.addEventListener("click", () => this.#dismiss());
    button.replaceWith(dismiss);
    if (watched) dismiss.focus();
    this.#tell(message, false);
    this.#announce(message);
  }

  #dismiss() {
    const next = this.root.nextElementSibling ?? this.root.previousElementSibling;
    this.root.remove();
    next?.querySelector("button")?.focus();
  }

  #tell(message, isFault) {
    const state = this.#part(".state");
    state.textContent = message;
    state.classList.toggle("fault", isFault);
  }

  #part(selector) {
    return this.root.querySelector(selector);
  }
}
