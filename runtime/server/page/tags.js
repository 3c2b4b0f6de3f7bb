// How many of the look's trained tags go into the prompt.

import { choose } from "./fields.js";

const ALL = "all";
const NONE = "none";
const SOME = "some";
const PRESET = "";
const element = (id) => document.getElementById(id);

export class Tags {
  #choice = element("tags");
  #count = element("tags-count");
  #presets;
  #tags;

  /** The tags that count are those of the first LoRA that has any; without any, nothing is shown. */
  constructor(info) {
    this.#presets = info.preset_tags;
    this.#tags = Object.values(info.trained_tags).find((tags) => tags.length > 0) ?? [];
    element("tags-part").hidden = element("tags-details").hidden = this.#tags.length === 0;
    this.#count.max = this.#tags.length;
    for (const select of [element("preset"), this.#choice]) {
      select.addEventListener("change", () => this.#show());
    }
    this.#count.addEventListener("input", () => this.#show());
    this.#show();
  }

  /** What a job's body says; undefined leaves it to the preset. */
  get value() {
    const chosen = this.#choice.value;
    if (chosen === PRESET) return undefined;
    return chosen === SOME ? this.#count.value : chosen;
  }

  set value(asked) {
    const known = asked === undefined || asked === ALL || asked === NONE;
    choose(this.#choice, known ? asked ?? PRESET : SOME);
    this.#count.value = known ? this.#count.defaultValue : asked;
    this.#show();
  }

  #show() {
    const preset = this.#presets[element("preset").value] ?? NONE;
    const asked = this.value ?? preset;
    const shown = { [ALL]: this.#tags, [NONE]: [] }[asked] ?? this.#tags.slice(0, Number(asked));
    const [ofPreset] = this.#choice.options;
    ofPreset.textContent = `preset: ${preset}`;
    element("tags-number").hidden = this.#choice.value !== SOME;
    this.#count.disabled = this.#choice.value !== SOME;
    element("tags-hint").textContent = this.#share(shown.length);
    element("tags-list").textContent = (shown.length ? shown : this.#tags).join(", ");
  }

  #share(count) {
    const all = this.#tags.length;
    if (count === 0) return `None of ${all} trained tags is added`;
    return `${count === all ? "All" : `${count} of`} ${all} trained tags are added`;
  }
}
