// One input for each field of an observation, by the card: sliders within bounds, a text for long lists, an image.
import { make, number } from "/pages/dom.js";
import { imageField } from "/pages/image.js";

const MAX_SLIDERS = 24;
const UNBOUNDED = 10; // how far a slider goes where the card has no bound

export const size = (shape) => shape.reduce((product, length) => product * length, 1);

// The bounds of one element, given by its place in the whole array; null where it has none.
function bound(value, shape, at) {
  if (!Array.isArray(value)) return value ?? null;
  const places = [];
  let rest = at;
  for (const length of [...shape].reverse()) {
    places.unshift(rest % length);
    rest = Math.floor(rest / length);
  }
  if (!value.some(Array.isArray)) return value[places[places.length - 1]];
  return places.reduce((inside, index) => (Array.isArray(inside) ? inside[index] : inside), value) ?? null;
}

// From where to where the values of an element may go, and go by themselves.
export function range(field, at) {
  const [low, high] = [bound(field.low, field.shape, at), bound(field.high, field.shape, at)];
  const seen = field.seen ?? {};
  const from = low ?? Math.min(bound(seen.low, field.shape, at) ?? -UNBOUNDED, high ?? 0);
  const to = high ?? Math.max(bound(seen.high, field.shape, at) ?? UNBOUNDED, from + 1);
  const isWhole = field.dtype === "uint8" || field.choices !== undefined;
  return { low, high, from, to, isWhole };
}

const middleOf = ({ from, to, isWhole }) => (isWhole ? Math.floor((from + to) / 2) : (from + to) / 2);
const randomOf = ({ from, to, isWhole }) => (isWhole ? from + Math.floor(Math.random() * (to - from + 1)) : from + Math.random() * (to - from));
export const values = { middle: middleOf, random: randomOf };

// A slider and the same number to be typed; the number may leave the slider's range where there is no bound.
function slider(id, label, limits) {
  const step = limits.isWhole ? 1 : "any";
  const range_ = make("input", { type: "range", id: `${id}-slider`, min: limits.from, max: limits.to, step, "aria-label": label });
  const typed = make("input", { type: "number", id, min: limits.low, max: limits.high, step, required: true, "aria-label": `${label}, as a number` });
  const set = (value) => { typed.value = Number(Number(value).toPrecision(4)); range_.value = value; };
  range_.addEventListener("input", () => { typed.value = Number(Number(range_.value).toPrecision(4)); });
  typed.addEventListener("input", () => { range_.value = typed.value; });
  set(middleOf(limits));
  return { parts: [range_, typed], set, get: () => Number(typed.value), mark: typed };
}

export function within({ low, high, isWhole }, unit) {
  const kind = isWhole ? "whole numbers " : "";
  const text = low === null ? (high === null ? "any" : `up to ${number(high)}`) : high === null ? `from ${number(low)}` : `${number(low)} to ${number(high)}`;
  return `${kind}${text}${unit === "1" ? "" : ` ${unit}`}`;
}

function scalar(name, field) {
  const limits = range(field, 0), control = slider(`field-${name}`, name, limits);
  const box = make("div", { class: "field" }, make("label", { for: `field-${name}` }, name, " ", make("span", { class: "quiet" }, within(limits, field.unit))), make("div", { class: "slide" }, ...control.parts));
  return { box, get: control.get, set: (kind) => control.set(values[kind](limits)), mark: () => control.mark };
}

function vector(name, field) {
  const every = Array.from({ length: size(field.shape) }, (_, at) => ({ limits: range(field, at), at }));
  for (const each of every) Object.assign(each, slider(`field-${name}-${each.at}`, `${name} ${each.at}`, each.limits));
  const same = every.every(({ limits }) => limits.low === every[0].limits.low && limits.high === every[0].limits.high);
  const box = make("fieldset", { class: "field" }, make("legend", {}, name, " ", make("span", { class: "quiet" }, `${every.length} numbers${same ? `, ${within(every[0].limits, field.unit)}` : ""}`)),
    make("div", { class: "sliders" }, ...every.map(({ at, parts }) => make("div", { class: "slide" }, make("span", { "aria-hidden": "true" }, at), ...parts))));
  return { box, get: () => every.map((each) => each.get()), set: (kind) => every.forEach((each) => each.set(values[kind](each.limits))), mark: (at) => every[at]?.mark };
}

// Numbers with anything between them: a list, a row of a table.
function text(name, field) {
  const count = size(field.shape), id = `field-${name}`;
  const area = make("textarea", { id, rows: 4, spellcheck: "false", "aria-describedby": `${id}-count`, required: true });
  const note = make("span", { id: `${id}-count`, class: "quiet" });
  const read = () => (area.value.match(/[^\s,;[\]]+/g) ?? []).map(Number);
  const look = () => {
    const found = read().length;
    note.textContent = `${found} of ${count} numbers, ${within(range(field, 0), field.unit)}`;
    area.setCustomValidity(found === count ? "" : `${name} takes ${count} numbers, not ${found}`);
  };
  const set = (kind) => {
    area.value = Array.from({ length: count }, (_, at) => Number(values[kind](range(field, at)).toPrecision(4))).join(", ");
    look();
  };
  area.addEventListener("input", look);
  set("middle");
  const box = make("div", { class: "field" }, make("label", { for: id }, name, " ", make("span", { class: "quiet" }, `shape ${field.shape.join(" × ")}`)), area, note);
  return { box, get: () => nested(read(), field.shape), set, mark: () => area };
}

export function nested(flat, shape) {
  if (shape.length < 2) return flat;
  const step = flat.length / shape[0];
  return Array.from({ length: shape[0] }, (_, at) => nested(flat.slice(at * step, (at + 1) * step), shape.slice(1)));
}

// `box` to be shown, `get` its value for /predict, `set` it to "middle" or "random", `mark` the input at fault.
export function fieldOf(name, field) {
  const made = !field.shape.length ? scalar(name, field)
    : field.shape.length >= 2 && field.shape.length <= 3 && field.shape.at(-1) > 3 && field.shape.at(-2) > 3 ? imageField(name, field)
    : field.shape.length === 1 && size(field.shape) <= MAX_SLIDERS ? vector(name, field) : text(name, field);
  if (field.history) made.box.append(make("p", { class: "quiet note" }, `${field.history.length} frames, the oldest first: ticks ${field.history.join(", ")}`));
  return made;
}
