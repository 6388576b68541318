// What drives, which versions are served or refused, and the figures of the last minute.
import { ago, clock, day, head, make, number, percent, place, replace, say, short } from "/pages/dom.js";
import { latency, requests, share, withCode } from "/pages/series.js";

const seconds = (text) => Date.parse(text) / 1000;

// Copies a text; browsers have a clipboard only where the connection is safe.
async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const box = make("textarea", { class: "hidden-text" });
  box.value = text;
  document.body.append(box);
  box.select();
  document.execCommand("copy");
  box.remove();
}

export function digest(text) {
  const button = make("button", { type: "button", class: "small", "aria-label": `Copy the digest ${short(text)}` }, "Copy");
  button.addEventListener("click", async () => {
    await copy(text);
    button.textContent = "Copied";
    say("copied", `copied ${short(text)}`);
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
  return make("span", { class: "digest" }, make("code", { title: text }, short(text)), button);
}

export function facts(told) {
  const drives = told.metadata;
  replace(place("facts"), [drives, told.workers, told.ready_workers], () => [
    ["version", make("strong", {}, drives.version)],
    ["digest", digest(drives.digest)],
    ["stage", drives.stage ?? "none"],
    ["since", make("time", { datetime: drives.loaded_at, id: "since" })],
    ["follows", drives.following ? drives.following + (drives.registry === "ok" ? "" : "; the registry does not answer") : "nothing: served from a folder"],
    ["backend", drives.backend],
    ["device", drives.device.name],
    ["workers", told.ready_workers < told.workers ? `${told.ready_workers} of ${told.workers} ready` : String(told.workers)],
  ].map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
  const since = seconds(drives.loaded_at);
  say("since", `${day(since)} (${ago(Date.now() / 1000 - since)})`);
}

export function warnings(texts) {
  place("warnings").hidden = !texts.length;
  replace(place("warnings"), texts, () => texts.map((text) => make("li", {}, text)));
}

const TILES = [
  ["requests/s", (history, minute) => number(requests(minute) / 60)],
  ["p50", (history, minute) => ms(latency(history, minute, 0.5))],
  ["p99", (history, minute) => ms(latency(history, minute, 0.99))],
  ["fallbacks", (history, minute) => of(withCode(minute, (code) => code === 504), minute)],
  ["other errors", (history, minute) => of(withCode(minute, (code) => code >= 400 && code !== 504), minute)],
  ["saturated", (history, minute) => percent(share(minute, "saturated"))],
  ["out of range", (history, minute) => percent(share(minute, "outside"))],
];
export const ms = (value) => (value === undefined ? "–" : `${number(value)} ms`);
const of = (count, minute) => percent(requests(minute) ? count / requests(minute) : undefined);
const BAD = new Set(["fallbacks", "other errors"]);

export function tiles(history) {
  const minute = history.minute(), all = history.all();
  const found = TILES.map(([name, value]) => [name, value(history, minute), name === "requests/s" ? number(requests(all)) : value(history, all)]);
  replace(place("tiles"), found, () => found.map(([name, now, whole]) => make("div", { class: BAD.has(name) && Number.parseFloat(now) > 0 ? "tile bad" : "tile" },
    make("dt", {}, name), make("dd", {}, now), make("dd", { class: "quiet" }, `${whole} in 15 min`))));
}

// What is served, held for episodes, or refused; what is refused with its reason.
export function versions(told) {
  const { served = [], held = [], canary = null } = told.metadata ?? {};
  const rows = [
    ...served.map((each) => [each.version, each.digest, "served", [each.following && `for ${each.following}`, `${each.backend} on ${each.device}`].filter(Boolean).join("; ")]),
    ...(canary?.version && canary.state !== "refused" ? [[canary.version, canary.digest, "canary", canary.state === "active" ? `${canary.share} % of the episodes` : canary.reason ?? canary.state]] : []),
    ...held.map((each) => [each.version, each.digest, "held", `for the episodes that it began, until ${clock(seconds(each.until))}`]),
    ...told.refused.map((each) => [each.version, each.digest, "refused", `${each.kind}, since ${day(seconds(each.since))}: ${each.reason}`]),
  ];
  replace(place("versions"), rows, () => [
    make("caption", { class: "hidden-text" }, "Versions, and why one is refused"),
    head("version", "digest", "state", "why"),
    make("tbody", {}, rows.length ? null : make("tr", {}, make("td", { colspan: 4 }, "none yet")), ...rows.map(([version, hash, state, why]) => make("tr", { role: "row" },
      make("th", { scope: "row", role: "rowheader" }, version || "–"), make("td", { role: "cell" }, hash ? digest(hash) : "–"),
      make("td", { role: "cell" }, make("span", { class: `state ${state}` }, state)), make("td", { role: "cell" }, why)))),
  ]);
}
