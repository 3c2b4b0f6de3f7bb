// The picture that a job starts from, and how the painted part of it is made.

import { tell } from "./faults.js";
import { Painter } from "./painter.js";
import { multipleBelow } from "./sizes.js";

const LEAST_SIDE = 64;
const element = (id) => document.getElementById(id);

export class Start {
  #painter = new Painter();
  #info;
  #changed;

  /** `changed` is called when a picture comes or goes. */
  constructor(info, changed) {
    this.#info = info;
    this.#changed = changed;
    element("picture").addEventListener("change", () => this.#choose());
    element("remove-picture").addEventListener("click", () => {
      this.close();
      element("picture").focus();
    });
    for (const id of ["strength", "only-masked"]) {
      element(id).addEventListener("input", () => this.show());
    }
    this.close();
  }

  get isOpen() {
    return this.#painter.isOpen;
  }

  close() {
    element("picture").value = "";
    tell(element("picture"), "");
    this.#painter.close();
    this.show();
  }

  /** What a job's body says of it, from what the form's controls say. */
  read(fields) {
    const { picture, mask } = this.#painter.read();
    const { mask: settings, ...init } = fields;
    return { ...init, picture, ...(mask && { mask: { ...settings, picture: mask } }) };
  }

  /** What `restore` brings back; null where there is no picture. */
  snapshot() {
    return this.#painter.snapshot();
  }

  async restore(sketch) {
    await this.#painter.restore(sketch);
    this.show();
  }

  /** Start from a picture that is there already, at its own size. */
  async open(file) {
    this.close();
    await this.#painter.open(file, this.#info.limits.pixels);
    this.show();
    [element("width").value, element("height").value] = this.#painter.size.map(multipleBelow);
    element("mask").scrollIntoView({ block: "center" });
    element("mask").focus({ preventScroll: true });
  }

  show() {
    element("strength").disabled = !this.isOpen;
    element("strength-shown").value = element("strength").valueAsNumber.toFixed(2);
    element("padding").disabled = !element("only-masked").checked;
    this.#changed();
  }

  /** Mark a strength that leaves none of the steps. */
  judge() {
    const strength = element("strength");
    const [share, steps] = [strength.valueAsNumber, element("steps").valueAsNumber];
    const least = Math.ceil(1 / share);
    const fault = share * steps < 1 ? `None of ${steps} steps is left: take ${least} or more.` : "";
    strength.setCustomValidity(fault);
  }

  async #choose() {
    const control = element("picture");
    const [file] = control.files;
    if (!file) return;
    try {
      await this.#painter.open(file, this.#info.limits.pixels);
    } catch {
      this.close();
      tell(control, `${file.name} cannot be read. Choose a PNG, JPEG or WebP file.`);
      return;
    }
    tell(control, "");
    this.show();
    this.#suggestSize();
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
}
