// What drives, and how: asked of /readyz, /metadata and /metrics. What comes from the server is only ever set as text.
const place = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const EVERY_MS = 2000;
const KEPT = 31; // looks: one minute
const looks = [];

function fact(name, value) {
  const term = document.createElement("dt");
  const text = document.createElement("dd");
  term.textContent = name;
  text.textContent = value;
  place("facts").append(term, text);
}

async function look() {
  const ready = await (await fetch("/readyz")).json();
  place("ready").className = ready.ready ? "good" : "bad";
  const why = ready.ready ? ready.warnings.join("; ") : ready.error.message;
  place("ready").textContent = (ready.ready ? "ready" : "not ready") + (why ? `: ${why}` : "");
  if (!ready.ready) return;
  const told = await (await fetch("/metadata")).json();
  document.title = place("title").textContent = `${told.card.name} ${told.version}`;
  place("facts").replaceChildren();
  fact("digest", told.digest);
  fact("since", told.loaded_at);
  fact("stage", told.stage ?? "a folder, not a registry");
  fact("follows", told.following ?? "nothing");
  fact("backend", `${told.backend} on ${told.device.name}`);
  looks.push(read(await (await fetch("/metrics")).text()));
  if (looks.length > KEPT) looks.shift();
  plot();
}

// Buckets by metric and label: {"policy_action throttle": [[bound, count], …]}, counts cumulative.
function read(text) {
  const found = {};
  for (const line of text.split("\n")) {
    const [, name, labels, count] = /^(policy_\w+)_bucket\{(.*)\} (\S+)$/.exec(line) ?? [];
    if (name === undefined) continue;
    const { le, dimension, part } = Object.fromEntries([...labels.matchAll(/(\w+)="([^"]*)"/g)].map((m) => [m[1], m[2]]));
    (found[`${name} ${dimension ?? part}`] ??= []).push([Number(le.replace("+Inf", "Infinity")), Number(count)]);
  }
  for (const buckets of Object.values(found)) buckets.sort((a, b) => a[0] - b[0]);
  return found;
}

// What came between two looks, a bucket each, not cumulative.
function between(before, after, key) {
  const old = new Map(before[key] ?? []);
  let below = 0;
  return (after[key] ?? []).map(([bound, count]) => {
    const upTo = count - (old.get(bound) ?? 0);
    const here = upTo - below;
    below = upTo;
    return [bound, here];
  });
}

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

function bars(id, buckets) {
  const svg = place(id);
  svg.replaceChildren();
  const shown = buckets.filter(([bound]) => bound !== Infinity);
  const most = Math.max(1, ...shown.map(([, count]) => count));
  const width = 300 / Math.max(1, shown.length);
  shown.forEach(([, count], index) => {
    const height = (95 * count) / most;
    mark(svg, "rect", { x: index * width + 1, y: 98 - height, width: width - 2, height });
  });
  mark(svg, "line", { x1: 0, y1: 98, x2: 300, y2: 98 });
}

function plot() {
  const [first, last] = [looks[0], looks[looks.length - 1]];
  const latency = between(first, last, "policy_latency_seconds total");
  bars("latency", latency);
  const [half, most] = [quantile(latency, 0.5), quantile(latency, 0.99)];
  const text = half === undefined ? "nobody asked" : `half within ${half * 1e3} ms, 99 % within ${most * 1e3} ms`;
  place("latency-text").textContent = `latency: ${text}`;
  for (const name of ["throttle", "brake", "steer"]) bars(name, between(first, last, `policy_action ${name}`));
}

async function ask() {
  const api = await (await fetch("/openapi.json")).json();
  const body = JSON.stringify(api.components.schemas.Question.examples[0]);
  const began = performance.now();
  const answer = await fetch("/predict", { method: "POST", headers: { "Content-Type": "application/json" }, body });
  const took = performance.now() - began;
  place("answer").textContent = JSON.stringify(await answer.json(), null, 1);
  place("took").textContent = `${answer.status}, ${took.toFixed(1)} ms seen from here`;
}

async function goOn() {
  try {
    await look();
  } catch (error) {
    place("ready").className = "bad";
    place("ready").textContent = `no answer: ${error}`;
  }
  setTimeout(goOn, EVERY_MS);
}

place("ask").addEventListener("click", ask);
goOn();
