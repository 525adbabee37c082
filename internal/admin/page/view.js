// What the page shows of the data.

import { $, h, text, attribute, show, list, bar, count, rate, percent, duration, span, clock, when } from "./dom.js";
import { plot, perSecond, spark } from "./plot.js";
import { data, now, weighted } from "./live.js";
import { openBackend, openWindow } from "./actions.js";

const ago = (time) => span((now() - Date.parse(time)) / 1000);

export function showLive() {
  const quiet = Math.round((performance.now() - data.heard) / 1000);
  const words = { connecting: "connecting", live: "live", stale: `stale for ${span(quiet)}`, refused: data.refusal === "token_needed" || data.refusal === "wrong_token" ? "token needed" : "refused" };
  attribute($("live"), "data-state", data.live);
  text($("live-text"), words[data.live]);
  document.body.classList.toggle("stale", data.live !== "live" && data.status !== null);
}

const signs = { none: "", info: "M14 25l7 7 14-16", warn: "M24 13v15M24 35v.1", error: "M16 16l16 16M32 16L16 32" };

export function showVerdict({ verdict }) {
  const serious = verdict.findings.filter((f) => f.level !== "info").length;
  const old = data.live !== "live" ? "Last known: " : "";
  const headline = headlineOf(verdict, serious);
  attribute($("verdict"), "data-level", verdict.level);
  attribute($("sign-path"), "d", signs[verdict.level]);
  text($("headline"), old ? old + headline.toLowerCase() : headline);
  text($("headline-since"), verdict.since ? `since ${when(verdict.since)}, for ${ago(verdict.since)}` : "");
  document.title = (serious ? "✕ " : "✓ ") + headline + " – stateproxy";
  list($("findings"), verdict.findings, (f) => `${f.kind} ${f.backend ?? ""} ${f.app ?? ""}`, makeFinding);
}

function headlineOf({ level, findings }, serious) {
  if (serious === 0) return "All is well";
  if (findings[0].kind === "not_ready") return "Not ready to serve";
  const things = serious === 1 ? "One thing " : serious + " things ";
  if (level === "warn") return things + (serious === 1 ? "needs a look" : "need a look");
  return things + (serious === 1 ? "is wrong" : "are wrong");
}

const tones = { info: "accent", warn: "warn", error: "bad" };

function makeFinding(f) {
  const tag = h("span", { class: "tag" });
  const name = h("strong");
  const body = h("span");
  const since = h("span", { class: "when" });
  const node = h("li", {}, tag, h("span", { class: "text" }, name, body), since);
  const update = (f) => {
    attribute(tag, "data-tone", tones[f.level]);
    text(tag, { info: "note", warn: "warning", error: "error" }[f.level]);
    text(name, f.backend ? f.backend + " " : "");
    text(body, f.text);
    text(since, f.since ? `${clock(f.since)}, ${ago(f.since)}` : "");
  };
  return { node, update };
}

const gaps = (columns, name) => columns[name].map((v, i) => (columns.requests[i] ? v : null));
let plots = null;

function makePlots() {
  plots = [
    [plot({ id: "plot-requests", title: "Requests", unit: "per second", curves: [{ tone: "accent", label: "all", values: (c) => perSecond(c, "requests") }] }), (s) => s.requests],
    [plot({ id: "plot-failed", title: "Failed", unit: "per second", curves: [
      { tone: "bad", label: "here", values: (c) => perSecond(c, "failed_here") },
      { tone: "muted", label: "by clients", values: (c) => perSecond(c, "failed").map((v, i) => Math.max(0, v - perSecondOf(c, "failed_here", i))) },
    ] }), (s) => s.failed_here],
    [plot({ id: "plot-latency", title: "Latency, 99 of 100 below", unit: "", format: duration, least: 0.001, curves: [
      { tone: "accent", label: "median", values: (c) => gaps(c, "p50_seconds") },
      { tone: "second", label: "99 %", values: (c) => gaps(c, "p99_seconds") },
    ] }), (s) => (s.requests ? s.p99_seconds : null)],
    [plot({ id: "plot-locked", title: "Polls for locked sessions", unit: "per second", curves: [
      { tone: "second", label: "polls", values: (c) => perSecond(c, "locked") },
      { tone: "accent", label: "brought over", values: (c) => perSecond(c, "moved") },
    ] }), (s) => s.locked],
  ];
  $("plots").append(...plots.map(([p]) => p.node));
}

const perSecondOf = (columns, name, i) => columns[name][i] / Math.max(i ? columns.at[i] - columns.at[i - 1] : columns.step_seconds, columns.step_seconds / 2);

export function showPlots(fineShown) {
  if (!plots) makePlots();
  const columns = fineShown ? data.fine : data.coarse;
  for (const [p, value] of plots) p.update(columns, fineShown ? 120 : 3600, data.sample && value(data.sample));
}

export function showFacts(status) {
  const facts = [
    ["Client connections", count(status.clients.connections)],
    ["In flight", count(status.requests.in_flight)],
    ["Requests since start", count(status.requests.total)],
    ["Sessions remembered", count(status.remembered_sessions)],
    ["Up for", span(status.uptime_seconds)],
    ...status.pools.map((p) => [status.pools.length > 1 ? "Fingerprint of " + p.name : "Fingerprint", p.fingerprint]),
  ];
  list($("facts"), facts, (f) => f[0], (f) => {
    const value = h("dd");
    return { node: h("div", {}, h("dt", {}, f[0]), value), update: (f) => text(value, f[1]) };
  });
}

const states = { up: ["up", "good"], down: ["down", "bad"], draining: ["draining", "accent"], coming: ["coming", "accent"], former: ["former", ""] };

export function showBackends(status) {
  const up = status.backends.filter((b) => b.state === "up" && !b.health?.kept).length;
  const all = status.backends.filter((b) => b.weight > 0).length;
  text($("backends-count"), all ? `${up} of ${all} up` : "");
  show($("no-backends"), status.backends.length === 0);
  const from = Math.max(0, data.fine.at.length - 60);
  const traffic = Object.fromEntries(Object.entries(data.fine.backends).map(([name, c]) => [name, c.requests.slice(from).reduce((a, b) => a + b, 0)]));
  const sum = Object.values(traffic).reduce((a, b) => a + b, 0);
  for (const b of status.backends) b.traffic = sum ? (traffic[b.name] ?? 0) / sum : 0;
  list($("backends"), status.backends, (b) => b.name + " " + b.address, makeBackend);
}

function makeBackend({ name, address }) {
  const tag = h("span", { class: "tag" });
  const since = h("span", { class: "when" });
  const why = h("p", { class: "why" });
  const shares = h("div");
  const traffic = h("span", { class: "number" });
  const trafficBar = bar("second", `Traffic of ${name}`);
  const line = spark();
  const p50 = h("span", { class: "number" });
  const p99 = h("small", { class: "number" });
  const conns = h("span", { class: "number" });
  const waiting = h("small", { class: "number" });
  const act = h("button", { class: "button", type: "button", "aria-label": "Act on " + name, onclick: () => openBackend(data.status, name) }, "Act…");
  const weight = h("small", { class: "number" });
  const cell = (label, kind, ...children) => h("td", { "data-label": label, class: kind }, ...children);
  const node = h("tr", { "data-backend": name },
    h("td", {}, h("span", { class: "name" }, name), h("small", {}, address), weight),
    h("td", {}, tag, " ", since, why),
    cell("Sessions", "share", shares), cell("Traffic", "share", traffic, trafficBar.node, line.node),
    cell("Latency", "", p50, p99), cell("Connections", "", conns, waiting), h("td", { class: "act" }, act));
  const update = (b) => {
    const [word, tone] = states[b.state] ?? [b.state, ""];
    const kept = b.state === "up" && b.health?.kept;
    const odd = b.state === "up" && (b.failing_since || b.health?.unproven);
    text(weight, b.weight ? "weight " + b.weight : "not in the config");
    text(tag, kept ? "failing, kept" : b.health?.by_hand ? "out by hand" : b.health?.loop ? "loop" : word);
    attribute(tag, "data-tone", kept ? "bad" : odd ? "warn" : tone);
    const began = sinceOf(b);
    text(since, began ? `for ${ago(began)}` : "");
    text(why, b.state === "down" || kept || odd ? reasonOf(b) : "");
    showShares(shares, b.name);
    text(traffic, percent(b.traffic));
    trafficBar.set(b.traffic);
    showLatency(b.name, line, p50, p99);
    text(conns, `${count(b.connections.busy)} busy, ${count(b.connections.open)} open`);
    text(waiting, b.connections.waiting ? `${count(b.connections.waiting)} requests wait` : "");
    show(act, offers(data.status, ["drain", "undrain", "weight", "eject", "readmit"]));
  };
  return { node, update };
}

const offers = ({ acting }, names) => acting.enabled && names.some((name) => acting.actions.includes(name));

// sinceOf is when a backend's state began, undefined where that is not known.
function sinceOf(b) {
  if (b.state === "up" || b.state === "down") return b.health?.since;
  return data.status.evacuations.find((e) => e.backend === b.name)?.began;
}

function reasonOf(b) {
  const held = b.health?.hold_down_until && Date.parse(b.health.hold_down_until) > now() ? `; stays out until ${clock(b.health.hold_down_until)} at least` : "";
  return (b.health?.reason ?? "") + held;
}

function showShares(parent, name) {
  const { pools } = data.status;
  const mine = pools.flatMap((p) => p.owners.filter((o) => o.backend === name).map((o) => ({ pool: p.name, share: o.share })));
  list(parent, mine.length ? mine : [{ pool: "", share: 0 }], (m) => m.pool, (m) => {
    const line = bar("", `Sessions of ${name} ${m.pool}`);
    const words = h("span", { class: "number" });
    const update = (m) => {
      text(words, percent(m.share) + (pools.length > 1 && m.pool ? ` of ${m.pool}` : ""));
      line.set(m.share);
    };
    return { node: h("div", {}, words, line.node), update };
  });
}

function showLatency(name, line, p50, p99) {
  const cells = data.fine.backends[name];
  line.update(cells?.requests ?? []);
  const from = Math.max(0, (cells?.requests.length ?? 0) - 10);
  const median = cells ? weighted(cells.p50_seconds, cells.requests, from) : 0;
  text(p50, duration(median));
  text(p99, median ? "99 % below " + duration(Math.max(...cells.p99_seconds.slice(from))) : "");
}

export function showMoves(status) {
  const moves = [
    ...status.pools.filter((p) => p.next).map((p) => ({ key: "next " + p.name, make: makeNext, pool: p })),
    ...status.evacuations.map((e) => ({ key: "empty " + e.backend, make: makeEvacuation, e })),
    ...status.pools.flatMap((p) => p.windows.map((w) => ({ key: `window ${p.name} ${w.ended}`, make: makeWindow, pool: p, w }))),
  ];
  text($("moves-sum"), `${count(status.requests.moved)} brought over at their use since the start`);
  list($("moves"), moves.length ? moves : [{ key: "none", make: makeRest }], (m) => m.key, (m) => m.make(m));
}

const makeRest = () => ({ node: h("p", { class: "card muted" }, "None. Every session is where it belongs.") });

function move(tone, label) {
  const title = h("span");
  const tag = h("span", { class: "tag", "data-tone": "accent" });
  const line = bar(tone, label);
  const words = h("p", { class: "muted" });
  return { title, tag, line, words, node: h("article", { class: "move card" }, h("h3", {}, title, tag), line.node, words) };
}

function makeNext() {
  const m = move("", "Until the change of owners");
  const update = ({ pool }) => {
    const left = (Date.parse(pool.next.at) - now()) / 1000;
    text(m.title, `Change of owners in ${pool.name}`);
    text(m.tag, left > 0 ? `in ${span(left)}` : "now");
    m.line.set(0);
    text(m.words, `${percent(pool.next.moved)} of its sessions get another owner at ${clock(pool.next.at)}.`);
  };
  return { node: m.node, update };
}

function makeEvacuation({ e }) {
  const m = move("good", `Emptying of ${e.backend}`);
  const update = ({ e }) => {
    text(m.title, `Emptying ${e.backend}`);
    text(m.tag, e.safe ? "may be shut down" : e.ends ? `about ${span((Date.parse(e.ends) - now()) / 1000)} left` : "under way");
    attribute(m.tag, "data-tone", e.safe ? "good" : "accent");
    m.line.set(e.safe ? 1 : e.moved / Math.max(1, e.moved + e.left));
    const parts = [`${count(e.moved)} brought over`, `${count(e.left)} left`];
    if (e.in_use) parts.push(`${count(e.in_use)} in use`);
    if (e.failed) parts.push(`${count(e.failed)} could not be moved yet`);
    if (e.missed) parts.push(`${count(e.missed)} not remembered`);
    if (e.blind_until && !e.safe) parts.push(`unknown ones may be there until ${clock(e.blind_until)}`);
    text(m.words, parts.join(", ") + ".");
  };
  return { node: m.node, update };
}

function makeWindow({ pool }) {
  const m = move("", `Handoff of ${pool.name}`);
  const close = h("button", { class: "button plain", type: "button", "aria-label": "Close the window of " + pool.name, onclick: () => openWindow(data.status, pool.name) }, "Close…");
  m.node.append(h("div", { class: "row" }, m.words, close));
  const update = ({ pool, w }) => {
    const [began, until] = [Date.parse(w.ended), Date.parse(w.until)];
    text(m.title, `Handoff in ${pool.name}`);
    text(m.tag, `${span((until - now()) / 1000)} left`);
    m.line.set((now() - began) / (until - began));
    text(m.words, `${percent(w.moved)} of sessions had another owner until ${clock(w.ended)}; it is asked for them until ${clock(w.until)}.`);
    show(close, offers(data.status, ["close-window"]));
  };
  return { node: m.node, update };
}
