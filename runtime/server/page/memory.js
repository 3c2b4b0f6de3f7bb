// What this tab has asked for, so that the page has its pictures when it is loaded again.

const JOBS = "fracture-sent";
const MOST_JOBS = 50;

/** The newest first, as {id, body}. */
export const jobs = () => JSON.parse(sessionStorage.getItem(JOBS) ?? "[]");

/** Pictures to start from are too large to be kept. */
export function remember(id, { init, ...body }) {
  const light = init && { ...init, picture: null, mask: init.mask && { ...init.mask, picture: null } };
  keep([{ id, body: { ...body, init: light } }, ...jobs()]);
}

export const forget = (id) => keep(jobs().filter((job) => job.id !== id));

export const forgetAll = () => sessionStorage.removeItem(JOBS);

const keep = (all) => sessionStorage.setItem(JOBS, JSON.stringify(all.slice(0, MOST_JOBS)));
