// Building and changing the page. Data gets in as text nodes and attributes
// only: what backends and applications are called, and why they fail, may have
// been chosen by an enemy.

const svgSpace = "http://www.w3.org/2000/svg";

export const $ = (id) => document.getElementById(id);

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "onclick" || name === "onsubmit") node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

// h makes an element; s makes one of a drawing.
export const h = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
export const s = (tag, attributes = {}, ...children) => fill(document.createElementNS(svgSpace, tag), attributes, children);

// text and attribute touch the page only if something changes, so that
// selections last and screen readers stay silent.
export function text(node, value) {
  value = String(value ?? "");
  if (node.textContent !== value) node.textContent = value;
}

export function attribute(node, name, value) {
  if (value == null || value === false) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

export function show(node, visible) {
  if (node.hidden === visible) node.hidden = !visible;
}

// list keeps the children of parent to items, by key: make gives a new item's
// element and the func that updates it.
const known = new WeakMap();

export function list(parent, items, keyOf, make) {
  const before = known.get(parent) ?? new Map();
  const now = new Map();
  let at = parent.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    if (now.has(key)) continue;
    const entry = before.get(key) ?? make(item);
    now.set(key, entry);
    before.delete(key);
    if (entry.node !== at) parent.insertBefore(entry.node, at);
    else at = at.nextElementSibling;
    entry.update?.(item);
  }
  for (const entry of before.values()) entry.node.remove();
  known.set(parent, now);
}

// bar is a share as a thin line; set takes 0 to 1.
export function bar(tone, label) {
  const inner = h("span");
  const node = h("div", { class: "bar " + tone, role: "img" }, inner);
  return {
    node,
    set(share) {
      const part = Math.min(1, Math.max(0, share || 0));
      inner.style.width = (part * 100).toFixed(1) + "%";
      attribute(node, "aria-label", `${label}: ${percent(part)}`);
    },
  };
}

// Numbers for people.

export const count = (n) => Math.round(n).toLocaleString("en-US");

export function rate(n) {
  return n > 0 && n < 10 ? n.toFixed(n < 0.1 ? 2 : 1) : count(n);
}

export function percent(share) {
  const p = share * 100;
  return (p > 0 && p < 10 ? p.toFixed(1) : Math.round(p)) + " %";
}

export function duration(seconds) {
  if (!(seconds > 0)) return "–";
  const ms = seconds * 1000;
  if (ms < 10) return ms.toFixed(ms < 1 ? 2 : 1) + " ms";
  return ms < 1000 ? Math.round(ms) + " ms" : seconds.toFixed(seconds < 10 ? 1 : 0) + " s";
}

// span tells a length of time in its two largest units.
export function span(seconds) {
  const n = Math.max(0, Math.round(seconds));
  if (n < 60) return n + " s";
  const two = (a, unit, b, smaller) => `${a} ${unit}` + (b ? ` ${b} ${smaller}` : "");
  if (n < 3600) return two(Math.floor(n / 60), "min", n < 600 ? n % 60 : 0, "s");
  if (n < 86400) return two(Math.floor(n / 3600), "h", Math.floor((n % 3600) / 60), "min");
  return two(Math.floor(n / 86400), "d", Math.floor((n % 86400) / 3600), "h");
}

// size tells a number of bytes, large ones in the unit that fits.
export function size(bytes) {
  const units = ["B", "KiB", "MiB", "GiB"];
  const at = Math.max(0, units.findIndex((_, i) => bytes < 1024 ** (i + 1) || i === 3));
  const n = bytes / 1024 ** at;
  return (at && n < 10 && n % 1 ? n.toFixed(1) : Math.round(n)) + " " + units[at];
}

export const clock = (time) => new Date(time).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });

// when shows a moment: the time of day, with the date if it is not today's.
export function when(time) {
  const date = new Date(time);
  const day = date.toDateString() === new Date().toDateString() ? "" : date.toLocaleDateString([], { day: "numeric", month: "short" }) + " ";
  return day + clock(time);
}
