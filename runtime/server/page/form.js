// The form, and the body of the job that it stands for.

import { checkForm, goTo, recheckForm, tell } from "./faults.js";
import { choose, fillSelect, readFields, writeFields } from "./fields.js";
import { Hires } from "./hires.js";
import { Start } from "./start.js";
import { Tags } from "./tags.js";

const NONE = "none";
const element = (id) => document.getElementById(id);

export class RequestForm {
  #form = element("request");
  #hires = new Hires();
  #info;
  #start;
  #tags;

  /** Offer what the server has. */
  constructor(info) {
    this.#info = info;
    const { defaults, limits } = info;
    fillSelect(element("preset"), [NONE, ...info.presets]);
    fillSelect(element("sampler"), Object.keys(info.samplers));
    element("sampler").addEventListener("change", () => this.#offerSchedules(""));
    element("steps").max = element("hires-steps").max = limits.steps;
    element("count").max = limits.pictures;
    this.#tags = new Tags(info);
    this.#start = new Start(info, () => this.#hires.allow(!this.#start?.isOpen));
    this.#show({ ...defaults, preset: defaults.preset || NONE });
    this.#form.addEventListener("input", () => {
      this.#judge();
      recheckForm(this.#form);
    });
  }

  /** Call `handle` with what is to be made, where nothing is wrong with it. */
  onSubmit(handle) {
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.showFault("");
      this.#judge();
      if (checkForm(this.#form)) handle();
    });
  }

  /** The body of the job, and what brings its picture and mask back. */
  async read() {
    const { init, ...fields } = readFields(this.#form);
    const body = { ...fields, tags: this.#tags.value, previews: this.#info.previews };
    if (this.#start.isOpen) body.init = this.#start.read(init);
    return { body, sketch: await this.#start.snapshot() };
  }

  /** Show what a picture was made of. */
  async write(body, sketch) {
    this.showFault("");
    this.#show(body);
    this.#start.close();
    if (sketch) await this.#start.restore(sketch);
    recheckForm(this.#form);
    element("prompt").focus();
  }

  /** Start from a picture that is there already. */
  async startFrom(file) {
    await this.#start.open(file);
    recheckForm(this.#form);
  }

  /** Say what the server refused, at the field where it is known; nothing for an empty text. */
  showFault(message, field) {
    const wrong = field && this.#form.elements.namedItem(field);
    element("fault").textContent = wrong ? "" : message;
    if (wrong) {
      tell(wrong, message);
      goTo(wrong);
    }
  }

  #show(body) {
    writeFields(this.#form, body);
    this.#offerSchedules(body.schedule ?? "");
    this.#tags.value = body.tags;
    this.#hires.isOn = Boolean(body.hires);
    this.#start.show();
    this.#judge();
  }

  /** The schedules of the chosen sampler; the empty one is the sampler's own. */
  #offerSchedules(chosen) {
    const select = element("schedule");
    fillSelect(select, this.#info.samplers[element("sampler").value] ?? []);
    select.prepend(new Option("the sampler's own", ""));
    choose(select, chosen);
  }

  /** What controls cannot say by themselves. */
  #judge() {
    const { prompt: characters, pixels } = this.#info.limits;
    for (const id of ["prompt", "negative"]) {
      const { length } = [...element(id).value];  // the server counts no halves of surrogates
      const fault = `${length} characters: this server takes ${characters}.`;
      element(id).setCustomValidity(length > characters ? fault : "");
    }
    const [width, height] = ["width", "height"].map((id) => element(id).valueAsNumber);
    const fault = `${width} × ${height} is more than ${pixels} pixels.`;
    element("width").setCustomValidity(width * height > pixels ? fault : "");
    this.#hires.judge(pixels);
    this.#start.judge();
  }
}
