// Calls of the server's own protocol, with the key of this tab.

const KEY = "fracture-key";
const FIRST_PAUSE = 1000;
const LONGEST_PAUSE = 15000;
const ENDS = new Set(["done", "failed", "cancelled"]);

/** What the server refused, in its own words. */
export class Refusal extends Error {
  constructor(status, message, field) {
    super(message);
    this.status = status;
    this.field = field;
  }
}

export const hasKey = () => sessionStorage.getItem(KEY) !== null;
export const keepKey = (key) => sessionStorage.setItem(KEY, key);
export const forgetKey = () => sessionStorage.removeItem(KEY);

/**
 * Answer of a route; the address is relative, so that the server may be behind any path.
 * Throws a Refusal, or fetch's TypeError where the server cannot be reached.
 */
export async function call(path, options = {}) {
  const headers = { ...options.headers };
  if (hasKey()) headers.Authorization = `Bearer ${sessionStorage.getItem(KEY)}`;
  // The browser's own dialog would come before ours if it answered for the credentials.
  const answer = await fetch(path, { ...options, headers, credentials: "omit" });
  if (!answer.ok) throw await refusalOf(answer);
  return answer;
}

async function refusalOf(answer) {
  const body = await answer.json().catch(() => ({}));
  const fault = body.error ?? {};
  let message = fault.message ?? `The server answered with status ${answer.status}.`;
  const wait = answer.headers.get("Retry-After");
  if (wait) message += ` Try again in ${wait} s.`;
  return new Refusal(answer.status, message, fault.field);
}

export const info = async () => (await call("v1/info")).json();

/** Why the server is not ready, or null. */
export async function whyNotReady() {
  const answer = await fetch("readyz", { credentials: "omit" });
  return (await answer.json()).reason;
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
 * phone sleeps, is opened again: the first event of each tells the whole state.
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
      if (error instanceof Refusal) throw error;
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
