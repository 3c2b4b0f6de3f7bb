// The second pass over an enlarged picture.

import { multipleBelow } from "./sizes.js";

const HINT = "A second pass works the picture over at a larger size.";
const NOT_WITH_PICTURE = "Not with a picture to start from.";
const element = (id) => document.getElementById(id);

export class Hires {
  #allowed = true;
  #switch = element("hires");
  #scale = element("hires-scale");

  constructor() {
    for (const control of [this.#switch, this.#scale, element("width"), element("height")]) {
      control.addEventListener("input", () => this.show());
    }
  }

  set isOn(on) {
    this.#switch.checked = on;
    this.show();
  }

  /** A job starts from a picture or has a second pass, not both. */
  allow(allowed) {
    this.#allowed = allowed;
    this.show();
  }

  show() {
    const on = this.#allowed && this.#switch.checked;
    this.#switch.disabled = !this.#allowed;
    element("hires-fields").disabled = !on;
    element("hires-hint").textContent = this.#allowed ? HINT : NOT_WITH_PICTURE;
    const [width, height] = this.#size;
    const known = Number.isFinite(width * height);
    element("hires-shown").value = on && known ? `${width} × ${height}` : on ? "on" : "off";
  }

  /** Mark a scale of which the server would make nothing; `most` is in pixels. */
  judge(most) {
    const [width, height] = this.#size;
    const unchanged = width === element("width").valueAsNumber
      && height === element("height").valueAsNumber;
    let fault = "";
    if (unchanged) fault = `The size stays ${width} × ${height}: choose a larger scale.`;
    if (width * height > most) fault = `${width} × ${height} is more than ${most} pixels.`;
    this.#scale.setCustomValidity(fault);
  }

  get #size() {
    return ["width", "height"].map((side) =>
      multipleBelow(element(side).valueAsNumber * this.#scale.valueAsNumber));
  }
}
