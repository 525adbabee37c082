// Small plots: one or two curves over time.

import { h, s, text, attribute, rate, span } from "./dom.js";

const height = 104;
const inset = { top: 8, right: 2, bottom: 18, left: 50 };

// nice is the smallest 1, 2 or 5 times a power of ten that is no less than n.
function nice(n) {
  if (!(n > 0)) return 1;
  const unit = 10 ** Math.floor(Math.log10(n));
  return [1, 2, 5, 10].find((f) => f * unit >= n * (1 - 1e-9)) * unit;
}

// perSecond turns columns into rates over time: counts become counts per second.
export function perSecond(columns, name) {
  return columns.at.map((at, i) => {
    const step = i ? at - columns.at[i - 1] : columns.step_seconds;
    return columns[name][i] / Math.max(step, columns.step_seconds / 2);
  });
}

// plot makes a plot. Each of curves has a tone, a label and values, a func from
// columns to numbers, null where there is none.
export function plot({ id, title, unit, curves, format = rate, least = 1 }) {
  const value = h("span", { id: id + "-value" }, "–");
  const legend = h("p", { class: "legend" });
  const svg = s("svg", { role: "img", tabindex: "0" });
  const grid = s("g");
  const cursor = s("line", { class: "cursor", visibility: "hidden" });
  const drawn = curves.map((c) => ({
    ...c,
    area: s("path", { class: "area fill-" + c.tone }),
    line: s("path", { class: "curve tone-" + c.tone }),
    note: h("span"),
  }));
  svg.append(grid, ...drawn.map((c) => c.area), ...drawn.map((c) => c.line), cursor);
  for (const c of drawn) legend.append(h("span", { class: "key " + c.tone, "aria-hidden": "true" }), c.note, " ");
  const node = h("article", { class: "plot card", id },
    h("h3", {}, title), h("p", { class: "value" }, value, h("span", { class: "unit" }, " " + unit)), legend, svg);

  const state = { columns: null, length: 0, at: null };
  const redraw = () => state.columns && draw(state, svg, grid, cursor, drawn, format, least, title, unit);
  new ResizeObserver(redraw).observe(svg);
  steer(svg, state, redraw);
  return {
    node,
    update(columns, length, now) {
      state.columns = columns;
      state.length = length;
      text(value, now == null ? "–" : format(now));
      redraw();
    },
  };
}

// steer lets pointer and arrow keys choose the moment that the legend tells of.
function steer(svg, state, redraw) {
  const choose = (at) => {
    state.at = at;
    redraw();
  };
  svg.addEventListener("pointermove", (e) => {
    const box = svg.getBoundingClientRect();
    const part = (e.clientX - box.left - inset.left) / (box.width - inset.left - inset.right);
    choose((part - 1) * state.length);
  });
  svg.addEventListener("pointerleave", () => choose(null));
  svg.addEventListener("blur", () => choose(null));
  svg.addEventListener("keydown", (e) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[e.key];
    if (!step) return;
    e.preventDefault();
    choose(Math.min(0, Math.max(-state.length, (state.at ?? 0) + step * state.columns.step_seconds)));
  });
}

function draw(state, svg, grid, cursor, curves, format, least, title, unit) {
  const { columns, length } = state;
  const width = svg.clientWidth;
  if (!width) return;
  attribute(svg, "viewBox", `0 0 ${width} ${height}`);
  const end = columns.at.at(-1) ?? 0;
  const first = columns.at.findIndex((at) => at > end - length);
  const rows = curves.map((c) => c.values(columns));
  const highest = nice(Math.max(least, ...rows.flatMap((r) => r.slice(Math.max(0, first)).filter((v) => v != null))));
  const x = (at) => inset.left + (width - inset.left - inset.right) * (1 - (end - at) / length);
  const y = (v) => inset.top + (height - inset.top - inset.bottom) * (1 - v / highest);
  drawGrid(grid, width, y, highest, format, length);
  curves.forEach((c, i) => drawCurve(c, columns.at, rows[i], Math.max(0, first), x, y));
  const at = nearest(columns.at, state.at == null ? null : end + state.at);
  attribute(cursor, "visibility", state.at == null ? "hidden" : "visible");
  if (state.at != null && columns.at.length) {
    for (const [name, v] of [["x1", x(columns.at[at])], ["x2", x(columns.at[at])], ["y1", inset.top], ["y2", height - inset.bottom]]) attribute(cursor, name, v.toFixed(1));
  }
  const ago = state.at == null || !columns.at.length ? "" : `, ${span(end - columns.at[at])} ago`;
  curves.forEach((c, i) => text(c.note, `${c.label} ${rows[i][at] == null ? "–" : format(rows[i][at])}${i === curves.length - 1 ? ago : ""}`));
  attribute(svg, "aria-label", `${title}, the last ${span(length)}, at most ${format(highest)} ${unit}. Arrow keys move through time.`);
}

function nearest(times, at) {
  if (at == null) return times.length - 1;
  let best = 0;
  times.forEach((t, i) => {
    if (Math.abs(t - at) < Math.abs(times[best] - at)) best = i;
  });
  return best;
}

function drawGrid(grid, width, y, highest, format, length) {
  const parts = [];
  for (const part of [0, 0.5, 1]) {
    const at = y(highest * part).toFixed(1);
    parts.push(s("line", { class: "grid", x1: inset.left, x2: width - inset.right, y1: at, y2: at }));
    parts.push(s("text", { class: "axis", x: inset.left - 6, y: +at + 4, "text-anchor": "end" }, part ? format(highest * part) : "0"));
  }
  parts.push(s("text", { class: "axis", x: inset.left, y: height - 4 }, "−" + span(length)));
  parts.push(s("text", { class: "axis", x: width - inset.right, y: height - 4, "text-anchor": "end" }, "now"));
  grid.replaceChildren(...parts);
}

// drawCurve leaves gaps where there is no value.
function drawCurve(curve, times, values, first, x, y) {
  let line = "";
  let area = "";
  let from = null;
  const close = (i) => {
    if (from != null) area += `L${x(times[i]).toFixed(1)} ${y(0).toFixed(1)}L${x(times[from]).toFixed(1)} ${y(0).toFixed(1)}Z`;
    from = null;
  };
  for (let i = first; i < times.length; i++) {
    if (values[i] == null) {
      close(i - 1);
      continue;
    }
    const step = `${from == null ? "M" : "L"}${x(times[i]).toFixed(1)} ${y(values[i]).toFixed(1)}`;
    line += step;
    area += step;
    from ??= i;
  }
  close(times.length - 1);
  attribute(curve.line, "d", line);
  attribute(curve.area, "d", area);
}

// spark is a line without axes.
export function spark() {
  const line = s("path", { class: "curve tone-second" });
  const node = s("svg", { class: "spark", viewBox: "0 0 104 22", "aria-hidden": "true" }, line);
  return {
    node,
    update(values) {
      const highest = Math.max(1, ...values);
      const points = values.map((v, i) => `${(104 - (values.length - 1 - i) * (104 / 119)).toFixed(1)} ${(20.5 - (18 * v) / highest).toFixed(1)}`);
      attribute(line, "d", points.length ? "M" + points.join("L") : "");
    },
  };
}
