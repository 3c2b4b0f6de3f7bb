// The cards of jobs and of finished pictures.

import * as api from "./api.js";
import { readTexts } from "./png.js";

const RECORD = "fracture-sd";
const PARAMETERS = "parameters";
const JOBS = "fracture-jobs";
const MOST_JOBS = 50;
/** What the form has of a picture's settings; the prompts there have their preset in them. */
const SETTINGS = [
  "prompt", "negative", "steps", "cfg", "sampler", "schedule", "width", "height", "clip_skip",
];
const QUARTERS = 4;

export class Gallery {
  #list = document.getElementById("gallery");
  #actions;

  /** `actions`: announce(text), again(body, sketch), use(body, sketch), change(file). */
  constructor(actions) {
    this.#actions = actions;
  }

  /** Follow a job that was just submitted. */
  add(job, body, sketch) {
    remember([job.id, ...remembered()]);
    return this.#follow(job.id, body, sketch);
  }

  /** Follow the jobs of this tab from before it was loaded again. */
  restore() {
    for (const id of remembered().reverse()) this.#follow(id, null, null);
  }

  async #follow(id, body, sketch) {
    const card = new JobCard(id, body?.prompt ?? "", this.#actions.announce);
    this.#list.prepend(card.root);
    if (body) card.root.scrollIntoView({ block: "nearest" });
    try {
      for await (const [event, data] of api.follow(id)) {
        if (event === "preview") card.showPreview(data.image);
        else if (event === "done") await this.#finish(card, data, body, sketch);
        else card.show(event, data);
        if (event === "failed" || event === "cancelled") forget(id);
      }
    } catch (error) {
      // A job from before may be older than the server keeps them.
      if (body === null && error.status === 404) card.remove();
      else card.fail(error.message);
      forget(id);
    }
  }

  async #finish(card, view, body, sketch) {
    const ready = view.pictures.filter((each) => each.ready);
    const cards = await Promise.all(ready.map(({ index, seed }) =>
      pictureCard(view.id, index, body && { ...body, seed, count: 1 }, sketch, this.#actions)));
    const watched = card.root.contains(document.activeElement);
    card.remove(...cards);
    if (watched) cards[0]?.focus();
    this.#actions.announce(cards.length === 1 ? "A picture is finished."
      : `${cards.length} pictures are finished.`);
  }
}

class JobCard {
  #quarter = 0;
  #announce;

  constructor(id, prompt, announce) {
    this.root = clone("job-card");
    this.#announce = announce;
    this.#part(".prompt").textContent = prompt;
    this.#part(".state").textContent = "Waiting";
    this.#part(".cancel").addEventListener("click", async () => {
      this.#part(".cancel").disabled = true;
      try {
        await api.cancel(id);
      } catch (error) {
        this.#announce(error.message);
      }
    });
  }

  show(event, view) {
    if (event === "failed") this.fail(view.error.message);
    else if (event === "cancelled") this.#end("Cancelled");
    else this.#progress(view);
  }

  #progress({ state, rows, rows_done: done, seconds_left: left }) {
    const bar = this.#part("progress");
    bar.max = rows;
    bar.value = done;
    const rest = left === null ? "" : `, ${Math.ceil(left)} s left`;
    const shown = state === "queued" ? "Waiting" : `Step ${done} of ${rows}${rest}`;
    this.#part(".state").textContent = shown;
    // Every step would drown whoever listens.
    const quarter = Math.floor((QUARTERS * done) / rows);
    if (quarter > this.#quarter && quarter < QUARTERS) this.#announce(shown);
    this.#quarter = quarter;
  }

  showPreview(base64) {
    const image = this.#part("img");
    const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
    URL.revokeObjectURL(image.src);
    image.src = URL.createObjectURL(new Blob([bytes]));
    image.alt = "The picture in progress";
    image.hidden = false;
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

  #end(message) {
    this.#part("progress").remove();
    this.#part(".stage").remove();
    const button = this.#part(".cancel");
    const dismiss = button.cloneNode();
    dismiss.disabled = false;
    dismiss.textContent = "Dismiss";
    dismiss.addEventListener("click", () => this.root.remove());
    button.replaceWith(dismiss);
    this.#part(".state").textContent = message;
    this.#announce(message);
  }

  #part(selector) {
    return this.root.querySelector(selector);
  }
}

async function pictureCard(id, index, sent, sketch, actions) {
  const file = await api.picture(id, index);
  const texts = readTexts(await file.arrayBuffer());
  const { settings } = JSON.parse(texts.get(RECORD));
  const root = clone("picture-card");
  const part = (selector) => root.querySelector(selector);

  const address = URL.createObjectURL(file);
  const image = part("img");
  image.src = address;
  image.alt = settings.prompt;
  part(".prompt").textContent = settings.prompt;
  part("pre").textContent = texts.get(PARAMETERS);
  const facts = {
    Seed: settings.seed,
    Size: `${settings.width} × ${settings.height}`,
    Steps: settings.steps,
    Sampler: `${settings.sampler}, ${settings.schedule}`,
    Guidance: settings.cfg,
  };
  for (const [name, value] of Object.entries(facts)) {
    const [term, description] = ["dt", "dd"].map((tag) => document.createElement(tag));
    term.textContent = name;
    description.textContent = value;
    part("dl").append(term, description);
  }

  const body = sent ?? bodyOf(settings);
  if (settings.init && !body.init) {  // the picture that it started from is gone
    part(".again").remove();
    part(".use").remove();
  } else {
    part(".again").addEventListener("click", () => actions.again(body, sketch));
    part(".use").addEventListener("click", () => actions.use(body, sketch));
  }
  part(".change").addEventListener("click", () => actions.change(file));
  part(".download").href = address;
  part(".download").download = `${settings.seed}-${id.slice(0, 8)}.png`;
  return root;
}

/** The job that makes a picture of these settings. */
function bodyOf(settings) {
  const known = Object.fromEntries(SETTINGS.map((name) => [name, settings[name]]));
  return { ...known, preset: "none", seed: settings.seed, count: 1 };
}

function clone(id) {
  return document.getElementById(id).content.firstElementChild.cloneNode(true);
}

const remembered = () => JSON.parse(sessionStorage.getItem(JOBS) ?? "[]");
const remember = (ids) => sessionStorage.setItem(JOBS, JSON.stringify(ids.slice(0, MOST_JOBS)));
const forget = (id) => remember(remembered().filter((other) => other !== id));
