// What the page shows of sessions: their sizes, their locks, and each
// application by itself. Single sessions are keyed hashes.

import { $, h, text, attribute, show, list, count, rate, percent, duration, span, size } from "./dom.js";
import { now } from "./live.js";

const sum = (numbers) => numbers.reduce((a, b) => a + b, 0);

// quantile estimates the value that a share of all stays below; null if there
// are none. Beyond the last end it is that end.
function quantile({ at_most: ends, counts }, share) {
  const rank = share * sum(counts);
  if (!rank) return null;
  let below = 0;
  for (let i = 0; i < ends.length; i++) {
    if (below + counts[i] >= rank) {
      const low = i ? ends[i - 1] : 0;
      return low + ((ends[i] - low) * (rank - below)) / counts[i];
    }
    below += counts[i];
  }
  return ends.at(-1);
}

// columns draws a histogram. Every so many columns have their end below them.
function columns(label, format, every) {
  const bars = h("div", { class: "columns-bars" });
  const node = h("div", { class: "histogram", role: "img" }, bars);
  const update = (histogram) => {
    const { at_most: ends, counts } = histogram;
    const all = sum(counts);
    const highest = Math.max(1, ...counts);
    const name = (i) => (i < ends.length ? `up to ${format(ends[i])}` : `over ${format(ends.at(-1))}`);
    list(bars, counts.map((n, i) => ({ n, i })), ({ i }) => i, ({ i }) => {
      const column = h("span", { class: "column" });
      const below = i % every === every - 1 && i < ends.length ? format(ends[i]) : "";
      const part = h("div", {}, column, h("small", {}, below));
      return {
        node: part,
        update({ n }) {
          column.style.height = n ? Math.max(2, (100 * n) / highest).toFixed(1) + "%" : "0";
          attribute(part, "title", `${name(i)}: ${count(n)}` + (all ? `, ${percent(n / all)}` : ""));
        },
      };
    });
    const shares = counts.map((n, i) => (n ? `${percent(n / all)} ${name(i)}` : "")).filter(Boolean);
    attribute(node, "aria-label", `${label}: ${shares.join(", ") || "none yet"}`);
  };
  return { node, update };
}

// card is a number with a line below and something under that.
function card(id, title, unit, ...below) {
  const value = h("span", { id: id + "-value" }, "–");
  const legend = h("p", { class: "legend" });
  const node = h("article", { class: "plot card", id }, h("h3", {}, title),
    h("p", { class: "value" }, value, unit ? h("span", { class: "unit" }, " " + unit) : ""), legend, ...below);
  return { node, value, legend };
}

const below99 = (histogram, format) => {
  const value = quantile(histogram, 0.99);
  return value == null ? "none yet" : `99 of 100 below ${format(value)}`;
};

let cards = null;

function makeCards() {
  const sizes = columns("Saves by size", size, 2);
  const waits = columns("Waits for locks", duration, 4);
  const holds = columns("Locks by the time they were held", duration, 4);
  const locks = h("ul", { class: "locks" });
  const shown = {
    sizes: card("sizes", "Size of a saved session, median", "", sizes.node),
    locks: card("locks", "Sessions that are waited for", "now", locks),
    waits: card("waits", "Wait for a lock, median", "", waits.node),
    holds: card("holds", "Lock is held, median", "", holds.node),
  };
  cards = { ...shown, charts: { sizes, waits, holds }, list: locks };
  $("session-cards").append(...Object.values(shown).map((c) => c.node));
}

const age = (since) => span((now() - Date.parse(since)) / 1000);

export function showSessions(sessions) {
  show($("sessions"), sessions !== null);
  if (!sessions) return;
  if (!cards) makeCards();
  const { all, locks } = sessions;
  text($("sessions-note"), sessions.sample > 1 ? `one in ${count(sessions.sample)} is followed, for locks and identical saves` : "");
  const largest = Math.max(0, ...sessions.apps.map((a) => a.largest[0]?.bytes ?? 0));
  const median = quantile(all.sizes, 0.5);
  text(cards.sizes.value, median == null ? "–" : size(median));
  text(cards.sizes.legend, largest ? `${below99(all.sizes, size)}, largest ${size(largest)}` : below99(all.sizes, size));
  for (const name of ["waits", "holds"]) {
    const half = quantile(all[name], 0.5);
    text(cards[name].value, half == null ? "–" : duration(half));
    text(cards[name].legend, below99(all[name], duration));
  }
  for (const name of ["sizes", "waits", "holds"]) cards.charts[name].update(all[name]);
  text(cards.locks.value, count(sessions.waiting));
  text(cards.locks.legend, `longest held ${locks[0] ? age(locks[0].since) : "–"}, ${rate(all.poll_rate)} polls/s`);
  list(cards.list, locks.length ? locks.slice(0, 4) : [null], (l) => l?.session, (l) => (l ? makeLock() : noLock()));
  showFacts(sessions);
  showApps(sessions);
}

const noLock = () => ({ node: h("li", { class: "muted" }, "No session is locked at this moment.") });

function makeLock() {
  const held = h("span", { class: "number" });
  const waited = h("span", { class: "tag" });
  const hash = h("code");
  const app = h("small");
  const update = (l) => {
    text(hash, l.session);
    text(app, l.app);
    text(held, age(l.since));
    text(waited, l.waited ? "waited for" : "held");
    attribute(waited, "data-tone", l.waited ? "warn" : "");
  };
  return { node: h("li", {}, hash, held, app, waited), update };
}

const identical = (a) => (a.compared ? percent(a.identical / a.compared) : "–");

function showFacts({ all, slow }) {
  const facts = [
    ["Saves identical to the one before", identical(all)],
    ["Requests near their time-out", count(slow)],
  ];
  list($("session-facts"), facts, (f) => f[0], (f) => {
    const value = h("dd");
    return { node: h("div", {}, h("dt", {}, f[0]), value), update: (f) => text(value, f[1]) };
  });
}

function showApps({ apps, left_out: leftOut }) {
  text($("apps-note"), leftOut ? `the ${apps.length} that are used most; ${leftOut} more at /api/v1/sessions` : "");
  const byName = [...apps].sort((a, b) => (a.name < b.name ? -1 : 1));
  list($("apps"), byName, (a) => a.name, makeApp);
}

// makeApp makes a line of an application that opens to all that is known of it.
function makeApp(first) {
  const figures = {};
  const figure = (key, label) => h("span", { class: "figure" }, h("small", {}, label), (figures[key] = h("span", { class: "number" })));
  const line = h("summary", {},
    h("span", { class: "name" }, first.name || "(no application part)"),
    figure("rate", "requests/s"), figure("size", "size, median"), figure("wait", "lock wait, 99 %"), figure("hold", "lock held, 99 %"),
    figure("polls", "polls/s"), figure("same", "identical saves"));
  const charts = [
    ["sizes", "Saves by size", columns("Saves by size", size, 2)],
    ["waits", "Waits for locks", columns("Waits for locks", duration, 4)],
    ["holds", "Locks held for", columns("Locks held for", duration, 4)],
  ];
  const largest = h("ol", { class: "ranking" });
  const busiest = h("ol", { class: "ranking" });
  const timeouts = h("p", { class: "muted" });
  const part = (title, ...children) => h("div", { class: "part" }, h("h4", {}, title), ...children);
  const details = h("details", {}, line, h("div", { class: "parts" }, ...charts.map(([, title, chart]) => part(title, chart.node)),
    part("Largest sessions", largest), part("Busiest sessions", busiest), part("Time-outs set", timeouts)));
  const about = (value, format) => (value == null ? "–" : format(value));
  const update = (a) => {
    text(figures.rate, rate(sum(a.ops.map((o) => o.rate))));
    text(figures.size, about(quantile(a.sizes, 0.5), size));
    text(figures.wait, about(quantile(a.waits, 0.99), duration));
    text(figures.hold, about(quantile(a.holds, 0.99), duration));
    text(figures.polls, rate(a.poll_rate));
    text(figures.same, identical(a));
    if (!details.open) return;
    for (const [key, , chart] of charts) chart.update(a[key]);
    list(largest, a.largest.slice(0, 5), (s) => s.session, makeSession((s) => size(s.bytes)));
    list(busiest, a.busiest.slice(0, 5), (s) => s.session, makeSession((s) => `${count(s.per_minute)} per min`));
    text(timeouts, a.timeouts.map((t) => `${t.minutes ? t.minutes + " min" : "others"} ${percent(t.share)}`).join(", ") || "none yet");
  };
  let last = first;
  details.addEventListener("toggle", () => update(last));
  return { node: h("li", { "data-app": first.name }, details), update: (a) => update((last = a)) };
}

const makeSession = (words) => () => {
  const hash = h("code");
  const value = h("span", { class: "number" });
  return {
    node: h("li", {}, hash, value),
    update(s) {
      text(hash, s.session);
      text(value, words(s));
    },
  };
};
