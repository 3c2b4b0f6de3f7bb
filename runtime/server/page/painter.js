// The picture to start from, and the mask that is painted over it.

import { multipleBelow } from "./sizes.js";
import { drawStroke, maskOf, seenStrokes } from "./strokes.js";

const element = (id) => document.getElementById(id);

export class Painter {
  #strokes = [];
  #stroke = null;
  #cursor = null;
  #editor = element("editor");
  #easel = element("easel");
  #source = element("source");
  #mask = element("mask");
  #ring = element("brush-ring");
  #brush = element("brush");
  #erase = element("erase");

  constructor() {
    this.#mask.addEventListener("pointerdown", (event) => this.#begin(event));
    this.#mask.addEventListener("pointermove", (event) => this.#move(event));
    this.#mask.addEventListener("pointerup", (event) => this.#end(event));
    this.#mask.addEventListener("pointercancel", (event) => this.#giveUp(event));
    this.#mask.addEventListener("pointerleave", () => this.#hideRing());
    this.#mask.addEventListener("blur", () => this.#hideRing());
    this.#mask.addEventListener("focus", () => {
      if (this.#mask.matches(":focus-visible")) this.#showRing();
    });
    this.#mask.addEventListener("keydown", (event) => this.#press(event));
    this.#brush.addEventListener("input", () => { if (!this.#ring.hidden) this.#showRing(); });
    element("undo").addEventListener("click", () => this.#undo());
    element("clear").addEventListener("click", () => {
      this.#keep([...this.#strokes, { clears: true }]);
    });
  }

  get isOpen() {
    return !this.#editor.hidden;
  }

  get size() {
    return [this.#source.width, this.#source.height];
  }

  /** Show a picture file, made smaller if it has more than `most` pixels; throws if it is none. */
  async open(file, most) {
    const bitmap = await createImageBitmap(file);
    const scale = Math.min(1, Math.sqrt(most / (bitmap.width * bitmap.height)));
    const fit = scale === 1 ? (side) => side : (side) => multipleBelow(side * scale);
    for (const canvas of [this.#source, this.#mask]) {
      canvas.width = fit(bitmap.width);
      canvas.height = fit(bitmap.height);
    }
    const context = this.#source.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.fillStyle = "#fff";
    context.fillRect(0, 0, ...this.size);
    context.drawImage(bitmap, 0, 0, ...this.size);
    bitmap.close();
    this.#cursor = { x: this.#source.width / 2, y: this.#source.height / 2 };
    this.#editor.hidden = false;
    this.#keep([]);
  }

  close() {
    this.#editor.hidden = true;
    this.#keep([]);
  }

  /** The picture and the mask, or null for none, as data URLs. */
  read() {
    const mask = maskOf(this.#strokes, ...this.size);
    return { picture: this.#source.toDataURL(), mask: mask && mask.toDataURL() };
  }

  /** What `restore` brings back; null where there is no picture. */
  async snapshot() {
    if (!this.isOpen) return null;
    const file = await new Promise((resolve) => { this.#source.toBlob(resolve); });
    return { file, strokes: this.#strokes };
  }

  async restore({ file, strokes }) {
    await this.open(file, Infinity);
    this.#keep(strokes);
  }

  #keep(strokes) {
    this.#stroke = null;
    this.#strokes = strokes;
    const seen = seenStrokes(strokes);
    const context = this.#mask.getContext("2d");
    context.clearRect(0, 0, ...this.size);
    for (const stroke of seen) drawStroke(context, stroke, this.#colour);
    element("undo").disabled = strokes.length === 0;
    element("clear").disabled = seen.length === 0;
  }

  #undo() {
    this.#keep(this.#strokes.slice(0, -1));
  }

  get #colour() {
    return getComputedStyle(document.documentElement).getPropertyValue("--mask");
  }

  /** The brush's diameter in pixels of the picture. */
  get #diameter() {
    return (Number(this.#brush.value) / 100) * Math.min(...this.size);
  }

  #begin(event) {
    if (!event.isPrimary || event.button !== 0) return;
    this.#mask.setPointerCapture(event.pointerId);
    this.#add(this.#place(event));
    this.#stroke = this.#strokes.at(-1);
  }

  #move(event) {
    if (!event.isPrimary) return;
    this.#cursor = this.#place(event);
    if (event.pointerType !== "touch") this.#showRing();
    if (!this.#stroke) return;
    const context = this.#mask.getContext("2d");
    const missed = event.getCoalescedEvents();
    for (const each of missed.length ? missed : [event]) {
      const points = this.#stroke.points;
      points.push(this.#place(each));
      drawStroke(context, { ...this.#stroke, points: points.slice(-2) }, this.#colour);
    }
  }

  /** Draw the whole stroke as one, which is how it is sent. */
  #end(event) {
    if (event.isPrimary && this.#stroke) this.#keep(this.#strokes);
  }

  /** Two fingers enlarge the page: what the first one drew was not meant. */
  #giveUp(event) {
    if (event.isPrimary && this.#stroke) this.#undo();
  }

  #press(event) {
    if (event.key === "z" && (event.ctrlKey || event.metaKey)) this.#undo();
    else if (event.ctrlKey || event.metaKey || event.altKey || !this.#steer(event.key)) return;
    event.preventDefault();
    this.#showRing();
  }

  /** Move the brush or paint; whether the key does either. */
  #steer(key) {
    const step = this.#diameter / 2;
    const [width, height] = this.size;
    const moves = {
      ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step],
    };
    if (key === " ") this.#add({ ...this.#cursor });
    if (!(key in moves)) return key === " ";
    const [dx, dy] = moves[key];
    this.#cursor = {
      x: Math.min(Math.max(this.#cursor.x + dx, 0), width),
      y: Math.min(Math.max(this.#cursor.y + dy, 0), height),
    };
    return true;
  }

  #add(point) {
    const stroke = { points: [point], width: this.#diameter, erases: this.#erase.checked };
    this.#keep([...this.#strokes, stroke]);
  }

  /** Where an event is, in pixels of the picture. */
  #place(event) {
    const box = this.#mask.getBoundingClientRect();
    return {
      x: ((event.clientX - box.left) / box.width) * this.#mask.width,
      y: ((event.clientY - box.top) / box.height) * this.#mask.height,
    };
  }

  #showRing() {
    const scale = this.#easel.clientWidth / this.#mask.width;
    const { style } = this.#ring;
    style.width = style.height = `${this.#diameter * scale}px`;
    style.left = `${this.#cursor.x * scale}px`;
    style.top = `${this.#cursor.y * scale}px`;
    this.#ring.hidden = false;
  }

  #hideRing() {
    this.#ring.hidden = true;
  }
}
