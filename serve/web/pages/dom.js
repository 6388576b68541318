// Building blocks of the page. What comes from the server is only ever set as text.
const SVG = "http://www.w3.org/2000/svg";

export const place = (id) => document.getElementById(id);

function filled(made, attributes, parts) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...parts.filter((part) => part !== null && part !== undefined && part !== ""));
  return made;
}

export const make = (kind, attributes = {}, ...parts) => filled(document.createElement(kind), attributes, parts);

export const draw = (kind, attributes = {}, ...parts) => filled(document.createElementNS(SVG, kind), attributes, parts);

// Sets a text only where it changes: a screen reader would read it again.
export function say(id, text, kind) {
  const at = place(id);
  if (at.textContent !== text) at.textContent = text;
  if (kind !== undefined && at.className !== kind) at.className = kind;
}

// Replaces what is inside only where `key` says that it changed, so that focus and selection stay.
export function replace(at, key, build) {
  const text = JSON.stringify(key);
  if (at.dataset.key === text) return false;
  at.dataset.key = text;
  at.replaceChildren(...build());
  return true;
}

export const row = (name, ...values) =>
  make("tr", {}, make("th", { scope: "row" }, name), ...values.map((value) => make("td", {}, value)));

export function head(...names) {
  return make("thead", {}, make("tr", {}, ...names.map((name) => make("th", { scope: "col" }, name))));
}

export function ago(seconds) {
  if (seconds < 90) return `${Math.max(0, Math.round(seconds))} s ago`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min ago`;
  if (seconds < 129600) return `${Math.round(seconds / 3600)} h ago`;
  return `${Math.round(seconds / 86400)} days ago`;
}

export const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString([], { hourCycle: "h23" });

export const day = (seconds) => new Date(seconds * 1000).toLocaleString([], { dateStyle: "medium", timeStyle: "short", hourCycle: "h23" });

// A number as people read it: three digits that count.
export function number(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (Math.abs(value) >= 1000) return Math.round(value).toLocaleString("en");
  return String(Number(value.toPrecision(3)));
}

export const percent = (share) => (share === undefined ? "–" : `${number(100 * share)} %`);

export const short = (digest) => digest.replace("sha256:", "").slice(0, 12);
