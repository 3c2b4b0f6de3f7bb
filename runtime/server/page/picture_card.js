// The card of a finished picture.

import { readTexts } from "./png.js";
import { clone } from "./templates.js";

const RECORD = "fracture-sd";
const PARAMETERS = "parameters";

/**
 * `made` is {file, name, body, sketch}: the picture's file, the name it is saved under, the job
 * that makes it, and what brings back the picture and mask that it started from.
 */
export async function pictureCard({ file, name, body, sketch }, actions) {
  const texts = readTexts(await file.arrayBuffer());
  const { settings } = JSON.parse(texts.get(RECORD));
  const root = clone("picture-card");
  const part = (selector) => root.querySelector(selector);

  const address = URL.createObjectURL(file);
  part("img").src = part(".stage").href = part(".download").href = address;
  part("img").alt = settings.prompt;
  part(".download").download = name;
  part(".prompt").textContent = settings.prompt;
  part("pre").textContent = texts.get(PARAMETERS);
  part("dl").append(...Object.entries(factsOf(settings)).flatMap(([term, fact]) => [
    textElement("dt", term), textElement("dd", fact),
  ]));

  if (body.init && !sketch) {
    part(".lost").hidden = false;
    part(".again").remove();
    part(".use").remove();
  } else {
    part(".again").addEventListener("click", () => actions.again(body, sketch));
    part(".use").addEventListener("click", () => actions.use(body, sketch));
  }
  part(".change").addEventListener("click", () => actions.change(file));
  return root;
}

function factsOf({ seed, width, height, steps, sampler, schedule, cfg, hires, init }) {
  const facts = {
    Seed: seed,
    Size: `${width} × ${height}`,
    Steps: steps,
    Sampler: `${sampler}, ${schedule}`,
    Guidance: cfg,
  };
  if (hires) {
    facts.Hires = `${hires.width} × ${hires.height}, ${hires.upscaler}, strength ${hires.strength}`;
  }
  if (init) facts.Strength = init.strength;
  if (init?.mask) facts.Mask = maskFacts(init.mask);
  return facts;
}

function maskFacts({ content, blur, only_masked: onlyMasked, padding }) {
  const area = onlyMasked ? `, only masked, padding ${padding}` : "";
  return `${content}, blur ${blur}${area}`;
}

function textElement(tag, text) {
  const element = document.createElement(tag);
  element.textContent = text;
  return element;
}
