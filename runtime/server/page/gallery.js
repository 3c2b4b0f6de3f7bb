// The cards of jobs and of finished pictures.

import * as api from "./api.js";
import { JobCard } from "./job_card.js";
import * as memory from "./memory.js";
import { pictureCard } from "./picture_card.js";

const GONE = 404;

export class Gallery {
  #list = document.getElementById("gallery");
  #actions;

  /**
   * `actions`: announce(text), again(body, sketch), use(body, sketch), change(file), and refused()
   * where the key is not taken any more.
   */
  constructor(actions) {
    this.#actions = actions;
  }

  /** Follow a job that was just submitted. */
  add({ id }, body, sketch) {
    memory.remember(id, body);
    const card = this.#show(id, body);
    card.root.scrollIntoView({ block: "nearest" });
    return this.#follow(card, { id, body, sketch, isOld: false });
  }

  /** Follow the jobs of this tab from before it was loaded again. */
  restore() {
    for (const { id, body } of memory.jobs().reverse()) {
      this.#follow(this.#show(id, body), { id, body, sketch: null, isOld: true });
    }
  }

  #show(id, body) {
    const card = new JobCard(id, body, this.#actions.announce);
    this.#list.prepend(card.root);
    return card;
  }

  async #follow(card, job) {
    try {
      for await (const [event, data] of api.follow(job.id)) {
        if (event === "done") await this.#finish(card, data, job);
        else card.show(event, data);
        if (event === "failed" || event === "cancelled") memory.forget(job.id);
      }
    } catch (error) {
      this.#lose(card, job, error);
    }
  }

  #lose(card, { id, isOld }, error) {
    const isGone = error.status === GONE;
    if (isGone) memory.forget(id);
    if (isGone && isOld) card.remove();
    else card.fail(isGone ? "The server no longer has this job." : error.message);
    if (error.wantsKey) this.#actions.refused();
  }

  async #finish(card, view, { body, sketch }) {
    const ready = view.pictures.filter((each) => each.ready);
    const cards = await Promise.all(ready.map(async ({ index, seed }) => {
      const file = await api.picture(view.id, index);
      const name = `${seed}-${view.id.slice(0, 8)}.png`;
      return pictureCard({ file, name, body: { ...body, seed, count: 1 }, sketch }, this.#actions);
    }));
    const watched = card.root.contains(document.activeElement);
    card.remove(...cards);
    if (watched) cards[0]?.focus();
    this.#actions.announce(cards.length === 1 ? "A picture is finished."
      : `${cards.length} pictures are finished.`);
  }
}
