// What drives, and how: asked of /readyz and /metadata, which keeps the last minute. What comes from the server is only ever set as text.
const place = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const EVERY_MS = 2000;

function fact(name, value) {
  const term = document.createElement("dt");
  const text = document.createElement("dd");
  term.textContent = name;
  text.textContent = value;
  place("facts").append(term, text);
}

async function refresh() {
  const ready = await (await fetch("/readyz")).json();
  place("ready").className = ready.ready ? "good" : "bad";
  const why = ready.ready ? ready.warnings.join("; ") : ready.error.message;
  place("ready").textContent = (ready.ready ? "ready" : "not ready") + (why ? `: ${why}` : "");
  if (!ready.ready) return;
  const served = await (await fetch("/metadata")).json();
  document.title = place("title").textContent = `${served.card.name} ${served.version}`;
  place("facts").replaceChildren();
  fact("digest", served.digest);
  fact("loaded at", served.loaded_at);
  fact("stage", served.stage ?? "none: served from a folder");
  fact("follows", served.following ?? "nothing: served from a folder");
  fact("backend", `${served.backend} on ${served.device.name}`);
  for (const held of served.held) fact("held for episodes", `${held.version} until ${held.until}`);
  plot(served.last_minute, served.card.action);
  showShadow(served.shadow);
  await compare(served);
}

// Buckets: pairs of upper bound, null where there is none, and count.
function quantile(buckets, share) {
  const all = buckets.reduce((sum, [, count]) => sum + count, 0);
  let seen = 0;
  for (const [bound, count] of buckets) {
    seen += count;
    if (all && seen >= share * all) return bound;
  }
  return undefined;
}

function mark(svg, kind, attributes) {
  const made = document.createElementNS(SVG, kind);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  svg.append(made);
}

// From where to where a value is counted: a named one that leaves [-1, 1] between its own bounds.
function range(name, bounds, action) {
  const [low, high] = action.control === "named" ? action.raw[name] : [Math.floor(bounds[0]), 1];
  if (low < -1 || high > 1) return `from ${low} to ${high}`;
  return `from ${name === "steer" ? "-1 (left)" : Math.floor(bounds[0])} to 1`;
}

// A figure with its caption; made when it is first asked for.
function canvas(id, text, into) {
  if (!place(id)) {
    const made = document.createElement("figure");
    const caption = document.createElement("figcaption");
    const svg = document.createElementNS(SVG, "svg");
    svg.id = id;
    for (const [key, value] of Object.entries({ viewBox: "0 0 300 100", preserveAspectRatio: "none", role: "img" })) svg.setAttribute(key, value);
    made.append(caption, svg);
    place(into).append(made);
  }
  place(id).previousSibling.textContent = text;
  return id;
}

// The figure of one of the values that the policy answers.
function figure(name, buckets, action) {
  const bounds = buckets.map(([bound]) => bound).filter((bound) => bound !== null);
  const text = typeof bounds[0] === "string" ? `${name}: ${bounds.join(", ")}` : `${name}, ${range(name, bounds, action)}`;
  return canvas(`action-${name}`, text, "plots");
}

// What another version would have done: its differences from what was answered, beside the latest champion.
function showShadow(found) {
  place("shadow").hidden = !found;
  if (!found) return;
  const who = found.version ? `${found.name} ${found.version}` : found.following;
  place("shadow-state").textContent = found.up ? `${who} is compared` : `${who} is not compared: ${found.reason}`;
  place("shadow-state").className = found.up ? "good" : "bad";
  const skipped = Object.values(found.skipped).reduce((sum, rows) => sum + rows, 0);
  const beside = found.beside[found.beside.length - 1];
  const share = (count) => (beside && beside.rows ? `${((100 * count) / beside.rows).toFixed(2)} %` : "none");
  const compared = beside ? `${beside.rows} rows beside ${beside.version}, ${share(beside.disagreements)} disagree; ` : "";
  place("shadow-found").textContent = `${compared}${skipped} rows could not be compared`;
  for (const dimension of beside ? beside.figures.dimensions : []) {
    const [mean, p99, max] = [dimension.mean, dimension.p99, dimension.max].map((value) => value.toPrecision(3));
    const text = `difference of ${dimension.name}: mean ${mean}, 99 % within ${p99}, at most ${max}`;
    bars(canvas(`shadow-${dimension.name}`, text, "shadow-plots"), dimension.histogram);
  }
}

function bars(id, buckets) {
  const svg = place(id);
  svg.replaceChildren();
  const shown = buckets.filter(([bound]) => bound !== null);
  const most = Math.max(1, ...shown.map(([, count]) => count));
  const width = 300 / Math.max(1, shown.length);
  shown.forEach(([, count], index) => {
    const height = (95 * count) / most;
    mark(svg, "rect", { x: index * width + 1, y: 98 - height, width: width - 2, height });
  });
  mark(svg, "line", { x1: 0, y1: 98, x2: 300, y2: 98 });
}

function plot(minute, action) {
  bars("latency", minute.latency);
  const [half, most] = [0.5, 0.99].map((share) => quantile(minute.latency, share));
  const within = (bound) => (bound === null ? "more than 5000 ms" : `within ${bound * 1e3} ms`);
  const text = half === undefined ? "no requests" : `half ${within(half)}, 99 % ${within(most)}`;
  place("latency-text").textContent = `latency: ${text}`;
  for (const [name, buckets] of Object.entries(minute)) if (name !== "latency") bars(figure(name, buckets, action), buckets);
}

async function ask() {
  const api = await (await fetch("/openapi.json")).json();
  const body = JSON.stringify(api.components.schemas.PredictRequest.examples[0]);
  const began = performance.now();
  const answer = await fetch("/predict", { method: "POST", headers: { "Content-Type": "application/json" }, body });
  const took = performance.now() - began;
  place("answer").textContent = JSON.stringify(await answer.json(), null, 1);
  place("took").textContent = `${answer.status}, ${took.toFixed(1)} ms round trip`;
}

async function goOn() {
  try {
    await refresh();
  } catch (error) {
    place("ready").className = "bad";
    place("ready").textContent = `no answer: ${error}`;
  }
  setTimeout(goOn, EVERY_MS);
}

place("ask").addEventListener("click", ask);
goOn();
