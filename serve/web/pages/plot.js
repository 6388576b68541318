// A figure over the last fifteen minutes: caption, axes, what is under the pointer, and the same as a table.
import { clock, draw, head, make, number, place, row } from "/pages/dom.js";

const HEIGHT = 150;
const EDGE = { left: 54, right: 10, top: 10, bottom: 20 };
const MINUTES = [15, 10, 5, 0];
const LINES = 9; // of texts of 12 px, which a plot has the height for

// The figure with an id; made when it is first asked for.
export function figure(id, into, title, note = "") {
  const known = place(id);
  if (known) return known;
  const made = make("figure", { id, "aria-labelledby": `${id}-title` },
    make("figcaption", {}, make("h3", { id: `${id}-title` }, title), make("span", { class: "value" })),
    draw("svg", { role: "img" }),
    make("p", { class: "legend" }),
    note ? make("p", { class: "quiet note" }, note) : null,
    make("details", {}, make("summary", {}, "As a table"), make("div", { class: "wide" }, make("table"))));
  place(into).append(made);
  const svg = made.querySelector("svg");
  svg.addEventListener("pointermove", (event) => point(made, event));
  svg.addEventListener("pointerleave", () => { made.at = undefined; made.redraw(); });
  made.querySelector("details").addEventListener("toggle", () => fillTable(made));
  new ResizeObserver(() => made.redraw()).observe(svg);
  return made;
}

function point(made, event) {
  const left = made.querySelector("svg").getBoundingClientRect().left;
  const { x, points } = made.shown;
  const share = (event.clientX - left - x.from) / (x.to - x.from);
  made.at = Math.min(points.length - 1, Math.max(0, Math.floor(share * points.length)));
  made.redraw();
}

// Draws a figure anew. `shown`: points; names and rows (a text for each name) of its table; `value`, the text beside the
// title; `summary` for who can't see it; `y`: texts at heights from 0 to 1; `marks`: times with a text; `paint`, which
// gets the group to draw in and what makes x of an index and y of a share.
export function show(made, shown) {
  made.shown = shown;
  made.redraw = () => redraw(made);
  made.redraw();
  fillTable(made);
}

function redraw(made) {
  const { shown } = made, svg = made.querySelector("svg"), width = svg.clientWidth;
  if (!shown || !width) return; // it is not to be seen
  shown.x = { from: leftEdge(shown.y), to: width - EDGE.right };
  const bottom = HEIGHT - EDGE.bottom, step = (shown.x.to - shown.x.from) / shown.points.length;
  const x = (index) => shown.x.from + index * step, y = (share) => bottom - share * (bottom - EDGE.top);
  const label = `${made.querySelector("h3").textContent}: ${shown.summary}`;
  svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
  if (svg.getAttribute("aria-label") !== label) svg.setAttribute("aria-label", label);
  const painted = draw("g");
  shown.paint(painted, x, y, step);
  svg.replaceChildren(axes(shown, x, y, width), painted, marks(shown, x, y, step));
  made.querySelector(".value").textContent = made.at === undefined ? shown.value : under(shown, made.at);
  if (made.at !== undefined) svg.append(draw("line", { class: "pointer", x1: x(made.at + 0.5), x2: x(made.at + 0.5), y1: y(1), y2: y(0) }));
}

// Where the plot begins: right of its longest tick, such as "1,000 ms", of which a letter takes at most 7 px.
const leftEdge = (marks) => Math.max(EDGE.left, 10 + 7 * Math.max(...marks.map(([, text]) => text.length)));

function under(shown, at) {
  const values = shown.names.map((name, index) => `${shown.names.length > 1 ? `${name} ` : ""}${shown.rows[at][index]}`);
  return `${clock(shown.points[at].at)}: ${values.join(", ")}`;
}

function axes(shown, x, y, width) {
  const group = draw("g", { class: "axes" });
  for (const [share, text] of shown.y) {
    group.append(draw("line", { x1: shown.x.from, x2: shown.x.to, y1: y(share), y2: y(share) }));
    group.append(draw("text", { x: shown.x.from - 6, y: y(share) + 4, "text-anchor": "end" }, text));
  }
  for (const minutes of MINUTES) {
    const at = shown.x.to - (minutes / 15) * (shown.x.to - shown.x.from);
    const anchor = minutes === 15 ? "start" : minutes === 0 ? "end" : "middle";
    const text = minutes ? `${minutes} min${minutes === 15 && width > 420 ? " ago" : ""}` : "now";
    group.append(draw("text", { x: at, y: HEIGHT - 5, "text-anchor": anchor }, text));
  }
  return group;
}

// Moves of versions, where they happened. A text goes on the first line where it covers no other; where there is none,
// the list of moves has it.
function marks(shown, x, y, step) {
  const group = draw("g", { class: "marks" }), first = shown.points[0].at, seconds = shown.points[0].seconds;
  const lines = Array.from({ length: LINES }, () => []);
  for (const { at, text } of shown.marks) {
    const place = x((at - first) / seconds), width = 4 + 7 * text.length;
    if (place < shown.x.from || place > shown.x.to + step) continue;
    group.append(draw("line", { x1: place, x2: place, y1: y(1), y2: y(0) }));
    const isRight = place > (shown.x.from + shown.x.to) / 2, [from, to] = isRight ? [place - width, place] : [place, place + width];
    const line = lines.findIndex((taken) => taken.every(([begins, ends]) => to < begins || from > ends));
    if (line < 0) continue;
    lines[line].push([from, to]);
    group.append(draw("text", { x: place + (isRight ? -4 : 4), y: y(1) + 9 + 12 * line, "text-anchor": isRight ? "end" : "start" }, text));
  }
  return group;
}

// One row a minute, of the point that is the last in it; filled only while it is open.
function fillTable(made) {
  const details = made.querySelector("details"), { shown } = made;
  if (!details.open || !shown) return;
  const every = Math.round(60 / shown.points[0].seconds), body = make("tbody");
  for (let at = shown.points.length - 1; at >= 0; at -= every) body.append(row(clock(shown.points[at].at), ...shown.rows[at]));
  made.querySelector("table").replaceChildren(make("caption", { class: "hidden-text" }, made.querySelector("h3").textContent), head("time", ...shown.names), body);
}

export function legend(made, names, values = [], kind = "line") {
  const text = JSON.stringify([names, values]), at = made.querySelector(".legend");
  if (at.dataset.key === text) return;
  at.dataset.key = text;
  at.replaceChildren(...names.map((name, index) =>
    make("span", {}, draw("svg", { viewBox: "0 0 22 8", "aria-hidden": "true" }, kind === "line" ? draw("line", { class: `line s${index % 6}`, x1: 0, x2: 22, y1: 4, y2: 4 }) : draw("rect", { class: `bar s${index % 6}`, x: 4, width: 14, height: 8 })),
      values[index] === undefined ? name : `${name} ${values[index]}`)));
}

// The least round number that is no smaller.
export function round(value) {
  const decade = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 3, 4, 5, 6, 8, 10].map((times) => times * decade).find((bound) => bound >= value * 0.999999);
}

export const ticks = (most, format = number) => [0, 0.5, 1].map((share) => [share, format(share * most)]);
