// Calls of the server's own protocol, with the key of this tab.

const KEY = "fracture-key";
const FIRST_PAUSE = 1000;
const LONGEST_PAUSE = 15000;
const ENDS = new Set(["done", "failed", "cancelled"]);
/** A proxy's answers while the server behind it is not there. */
const GONE = new Set([502, 503, 504]);

/** What the server refused, in its own words. */
export class Refusal extends Error {
  constructor(status, message, field) {
    super(message);
    this.status = status;
    this.field = field;
  }

  get wantsKey() {
    return this.status === 401;
  }
}

/** There was no answer. */
export class Unreachable extends Error {
  constructor() {
    super("The server cannot be reached. Is it running, and is this device online?");
  }
}

export const hasKey = () => sessionStorage.getItem(KEY) !== null;
export const keepKey = (key) => sessionStorage.setItem(KEY, key);
export const forgetKey = () => sessionStorage.removeItem(KEY);

/** The page's own place, so that the server may be behind any path, and without user:password. */
const here = location.origin + location.pathname;

/** Answer of a route. Throws a Refusal, or Unreachable. */
export async function call(path, options = {}) {
  // This header keeps the browser's own dialog from coming before our form.
  const headers = { "X-Requested-With": "fetch", ...options.headers };
  if (hasKey()) headers.Authorization = `Bearer ${sessionStorage.getItem(KEY)}`;
  const answer = await reach(path, { ...options, headers });
  if (!answer.ok) throw await refusalOf(answer);
  return answer;
}

async function reach(path, options) {
  try {
    return await fetch(new URL(path, here), options);
  } catch {
    throw new Unreachable();
  }
}

async function refusalOf(answer) {
  const body = await answer.json().catch(() => ({}));
  const fault = body.error ?? {};
  let message = fault.message ?? `The server answered with status ${answer.status}.`;
  const wait = answer.headers.get("Retry-After");
  if (wait) message += ` There may be room in ${wait} s.`;
  return new Refusal(answer.status, message, fault.field);
}

export const info = async () => (await call("v1/info")).json();

/** Why the server is not ready, or null. Throws Unreachable. */
export async function whyNotReady() {
  const answer = await reach("readyz");
  const { reason } = await answer.json().catch(() => ({ reason: `status ${answer.status}` }));
  return reason;
}

export async function submit(body) {
  const answer = await call("v1/jobs", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  return answer.json();
}

export const cancel = (id) => call(`v1/jobs/${id}`, { method: "DELETE" });

/** The file of a finished picture. */
export const picture = async (id, index) =>
  (await call(`v1/jobs/${id}/pictures/${index}`)).blob();

/**
 * What happens to a job until it ends, as [event, data]. A stream that breaks, as it does when a
 * phone sleeps, is opened again: the first event of each tells the whole state. Where there is no
 * answer, the event is "lost".
 */
export async function* follow(id) {
  for (let pause = FIRST_PAUSE; ; pause = Math.min(2 * pause, LONGEST_PAUSE)) {
    try {
      for await (const [event, data] of events(`v1/jobs/${id}/events`)) {
        pause = FIRST_PAUSE;
        yield [event, data];
        if (ENDS.has(event)) return;
      }
    } catch (error) {
      if (error instanceof Refusal && !GONE.has(error.status)) throw error;
      yield ["lost", null];
    }
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}

/** Server-sent events read with fetch: EventSource cannot send a key. */
async function* events(path) {
  const answer = await call(path, { headers: { Accept: "text/event-stream" } });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const fields = Object.fromEntries(block.split("\n").map(fieldOf));
      if (fields.data) yield [fields.event, JSON.parse(fields.data)];
    }
  }
}

function fieldOf(line) {
  const colon = line.indexOf(": ");
  return [line.slice(0, colon), line.slice(colon + 2)];
}
