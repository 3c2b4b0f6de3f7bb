// The form, and the body of the job that it stands for.

import { Painter, multipleBelow } from "./painter.js";

const NONE = "none";
const TEXTS = ["prompt", "negative"];
const CHOICES = ["preset", "sampler"];
const NUMBERS = ["width", "height", "steps", "cfg", "count"];
const LEAST_SIDE = 64;
const element = (id) => document.getElementById(id);

export class RequestForm {
  #form = element("request");
  #painter = new Painter();
  #info;

  /** Offer what the server has. */
  constructor(info) {
    this.#info = info;
    const { defaults, limits } = info;
    fillSelect(element("preset"), [NONE, ...info.presets]);
    fillSelect(element("sampler"), Object.keys(info.samplers));
    element("sampler").addEventListener("change", () => this.#offerSchedules(""));
    element("prompt").maxLength = element("negative").maxLength = limits.prompt;
    element("steps").max = limits.steps;
    element("count").max = limits.pictures;
    this.#show({ ...defaults, preset: defaults.preset || NONE, prompt: "", count: 1 });
    element("picture").addEventListener("change", () => this.#choose());
    element("remove-picture").addEventListener("click", () => this.#remove());
    element("strength").addEventListener("input", () => this.#showStrength());
    this.#showStrength();
  }

  onSubmit(handle) {
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      handle();
    });
  }

  /** The body of the job, and what brings its picture and mask back. */
  async read() {
    const body = { previews: this.#info.previews };
    for (const name of [...TEXTS, ...CHOICES]) body[name] = element(name).value;
    for (const name of NUMBERS) body[name] = element(name).valueAsNumber;
    if (element("schedule").value) body.schedule = element("schedule").value;
    if (element("seed").value) body.seed = element("seed").valueAsNumber;
    if (this.#painter.isOpen) {
      const { picture, mask } = this.#painter.read();
      body.init = { picture, strength: element("strength").valueAsNumber };
      if (mask) body.init.mask = { picture: mask, only_masked: element("only-masked").checked };
    }
    return { body, sketch: await this.#painter.snapshot() };
  }

  /** Show what a picture was made of. */
  async write(body, sketch) {
    this.#show(body);
    element("picture").value = "";
    this.#painter.close();
    if (sketch) {
      await this.#painter.restore(sketch);
      element("strength").value = body.init.strength;
      element("only-masked").checked = Boolean(body.init.mask?.only_masked);
      this.#showStrength();
    }
    element("prompt").focus();
  }

  /** Start from a picture that is there already, at its own size. */
  async startFrom(file) {
    element("picture").value = "";
    await this.#open(file);
    [element("width").value, element("height").value] = this.#painter.size.map(multipleBelow);
    element("mask").scrollIntoView({ block: "center" });
    element("mask").focus();
  }

  /** Say what is wrong, at the field where it is known; nothing for an empty text. */
  showFault(message, field) {
    element("fault").textContent = message;
    const wrong = field && this.#form.elements.namedItem(field);
    if (wrong instanceof HTMLElement) wrong.focus();
  }

  #show(body) {
    for (const name of [...TEXTS, ...NUMBERS]) {
      if (body[name] !== undefined) element(name).value = body[name];
    }
    for (const name of CHOICES) choose(element(name), body[name]);
    this.#offerSchedules(body.schedule ?? "");
    element("seed").value = body.seed ?? "";
  }

  /** The schedules of the chosen sampler; the empty one is the sampler's own. */
  #offerSchedules(chosen) {
    const select = element("schedule");
    fillSelect(select, this.#info.samplers[element("sampler").value] ?? []);
    select.prepend(new Option("the sampler's own", ""));
    choose(select, chosen);
  }

  async #choose() {
    const [file] = element("picture").files;
    if (!file) return;
    this.showFault("");
    try {
      await this.#open(file);
    } catch {
      this.#remove();
      this.showFault(`${file.name} cannot be read as a picture. Choose a PNG, JPEG or WebP file.`);
      return;
    }
    this.#suggestSize();
  }

  async #open(file) {
    await this.#painter.open(file, this.#info.limits.pixels);
  }

  /** The picture's shape, with about as many pixels as the bundle's own size has. */
  #suggestSize() {
    const { width, height } = this.#info.defaults;
    const shape = Math.sqrt(this.#painter.size[0] / this.#painter.size[1]);
    const side = Math.sqrt(width * height);
    const near = (length) => Math.max(LEAST_SIDE, multipleBelow(length + 4));
    element("width").value = near(side * shape);
    element("height").value = near(side / shape);
  }

  #remove() {
    element("picture").value = "";
    this.#painter.close();
    element("picture").focus();
  }

  #showStrength() {
    element("strength-shown").value = element("strength").valueAsNumber.toFixed(2);
  }
}

/** Choose a value, which a bundle may know by another name than the list does. */
function choose(select, value) {
  select.value = value;
  if (select.selectedIndex < 0) {
    select.add(new Option(value, value));
    select.value = value;
  }
}

function fillSelect(select, values) {
  select.replaceChildren(...values.map((value) => new Option(value, value)));
}
