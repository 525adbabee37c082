// The live stream: reads server-sent events, keeps what they tell, and connects
// again when the stream ends. It uses fetch, not EventSource, since that can
// send no token and does not tell why it was refused.

import { headers } from "./actions.js";

const staleAfter = 4000; // ms without news
const retryFirst = 1000;
const retryMost = 15000;
const maxEvents = 500;

// data is all that the page shows.
export const data = {
  status: null,
  events: [], // the latest first
  fine: null, // history: columns
  coarse: null,
  sample: null, // the last one
  sessions: null, // of the busiest applications; null if nothing is known of them
  live: "connecting", // or live, stale, refused
  heard: 0, // when news came last, by performance.now()
  refusal: "",
};

// now is the server's time in ms, whose clock may differ from ours.
export function now() {
  return data.status ? Date.parse(data.status.time) + performance.now() - data.heard : Date.now();
}

const takes = {
  status(news) {
    data.status = news;
  },
  change(news) {
    Object.assign(data.status, news);
  },
  history(news) {
    data.fine = news.fine;
    data.coarse = news.coarse;
  },
  sessions(news) {
    data.sessions = news;
  },
  events(news) {
    data.events = news.events;
  },
  event(news) {
    data.events.unshift(news);
    data.events.length = Math.min(data.events.length, maxEvents);
  },
  sample(news) {
    data.sample = news;
    append(data.fine, news, 120);
    thicken(data.coarse);
  },
};

// append adds a sample to columns and drops what is older than limit points.
function append(columns, sample, limit) {
  if (columns.at.length && sample.at <= columns.at.at(-1)) return;
  const drop = columns.at.length >= limit ? columns.at.length - limit + 1 : 0;
  const length = columns.at.length;
  for (const name of Object.keys(sample)) {
    if (name === "backends") continue;
    columns[name].push(sample[name]);
    columns[name].splice(0, drop);
  }
  for (const [backend, cells] of Object.entries(sample.backends)) {
    columns.backends[backend] ??= Object.fromEntries(Object.keys(cells).map((k) => [k, new Array(length).fill(0)]));
    for (const [name, value] of Object.entries(cells)) {
      columns.backends[backend][name].push(value);
      columns.backends[backend][name].splice(0, drop);
    }
  }
  for (const backend of Object.keys(columns.backends)) {
    if (!sample.backends[backend]) delete columns.backends[backend];
  }
}

// thicken makes a point of the hour from the seconds after its last one, once
// there are ten.
function thicken(coarse) {
  const { fine } = data;
  const last = coarse.at.at(-1) ?? fine.at[0] - 1;
  const from = fine.at.findIndex((at) => at > last + 0.5);
  if (from < 0 || fine.at.length - from < coarse.step_seconds) return;
  append(coarse, summary(fine, from), 360);
}

const sums = ["requests", "failed", "failed_here", "locked", "moved"];

function summary(columns, from) {
  const point = { at: columns.at.at(-1), connections: columns.connections.at(-1), in_flight: columns.in_flight.at(-1), backends: {} };
  for (const name of sums) point[name] = columns[name].slice(from).reduce((a, b) => a + b, 0);
  point.p50_seconds = weighted(columns.p50_seconds, columns.requests, from);
  point.p99_seconds = Math.max(...columns.p99_seconds.slice(from));
  return point;
}

// weighted is the mean of values from an index on, each as often as it counts.
export function weighted(values, counts, from) {
  let sum = 0;
  let n = 0;
  for (let i = from; i < values.length; i++) {
    sum += values[i] * counts[i];
    n += counts[i];
  }
  return n ? sum / n : 0;
}

// follow reads the stream for ever and calls changed after each piece of news.
export async function follow(changed) {
  setInterval(() => {
    if (data.live === "live" && performance.now() - data.heard > staleAfter) data.live = "stale";
    changed();
  }, 1000);
  for (let wait = retryFirst; ; wait = Math.min(wait * 1.6, retryMost)) {
    try {
      if (await read(changed)) wait = retryFirst;
    } catch {
      // The stream broke off; what is shown gets stale.
    }
    if (data.live === "live") data.live = "stale";
    changed();
    await pause(wait);
  }
}

let wake = () => {};

// again ends the pause before the next try, for there is a token now.
export const again = () => wake();

const pause = (ms) => new Promise((resolve) => {
  wake = resolve;
  setTimeout(resolve, ms);
});

// read follows one stream to its end and returns whether it brought any news.
async function read(changed) {
  const abort = new AbortController();
  const response = await fetch("/api/v1/stream", { headers: headers(), signal: abort.signal, cache: "no-store" });
  if (!response.ok) {
    const problem = await response.json().catch(() => ({}));
    data.live = "refused";
    data.refusal = problem.code ?? "";
    return false;
  }
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (let timer; ; clearTimeout(timer)) {
    timer = setTimeout(() => abort.abort(), 30000);
    const { value, done } = await reader.read();
    if (done) {
      clearTimeout(timer);
      return data.status !== null;
    }
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) take(part);
    changed();
  }
}

// take understands one server-sent event.
function take(part) {
  const [first, second] = part.split("\n");
  if (!first?.startsWith("event: ") || !second?.startsWith("data: ")) return;
  const news = JSON.parse(second.slice(6));
  takes[first.slice(7)]?.(news);
  if (news.time && takes[first.slice(7)] !== takes.event) {
    data.heard = performance.now();
    data.live = "live";
  }
}
