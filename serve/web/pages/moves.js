// The journal's last moves as a timeline; who and why are there only where the server has an API key.
import { ago, day, make, number, place, replace, say } from "/pages/dom.js";

const what = (move) => {
  if (!move.kind) return "an entry that can't be read: it was edited";
  if (move.kind === "set") return "the gates' settings were changed";
  if (move.kind === "register") return `${move.version} was registered`;
  if (move.kind === "baked") return `${move.version} baked in ${move.to} without an alarm`;
  const verb = { promote: "was promoted to", rollback: "was rolled back to", archive: "was", seen: "was moved in MLflow to" }[move.kind] ?? `${move.kind}:`;
  const share = move.share === null ? "" : `, ${number(move.share)} % of the episodes`;
  const before = move.displaced && move.displaced !== move.version ? `, in the place of ${move.displaced}` : "";
  return `${move.version} ${verb} ${move.to}${share}${before}${move.bake_s ? `; bakes for ${number(move.bake_s / 60)} min` : ""}`;
};

// Gates that were overruled and changes that were allowed: their names, and what was said of each.
function waived(texts) {
  if (!texts.length) return null;
  const names = [...new Set(texts.map((text) => text.split(": ").slice(0, 2).join(": ")))];
  return make("details", { class: "waived" }, make("summary", {}, names.join(", ")), ...texts.map((text) => make("p", {}, text)));
}

const MOVED = new Set(["promote", "rollback", "seen"]);

// Those of them that changed what this server answers with, to be marked in the plots.
export function marks(told) {
  const stages = [told.metadata?.stage ?? "production", told.metadata?.canary && "canary"];
  const moved = (told.moves?.moves ?? []).filter((move) => MOVED.has(move.kind) && stages.includes(move.to));
  return moved.map((move) => ({ at: move.when, text: move.to === "canary" ? `${move.version} (canary)` : move.version }));
}

export function moves(told) {
  const found = told.moves;
  place("journal").hidden = !found;
  if (!found) return;
  const hidden = told.has_key ? "" : " Who moved it, and why, is shown where the server has an API key.";
  say("journal-text", found.moves.length ? `The latest first.${hidden}` : "The journal is empty.");
  replace(place("moves"), [found.moves, told.has_key], () => found.moves.map((move) => make("li", { class: move.kind },
    make("time", { datetime: new Date(move.when * 1000).toISOString(), class: "quiet" }, move.when ? `${day(move.when)} (${ago(Date.now() / 1000 - move.when)})` : "–"),
    make("p", {}, make("strong", {}, what(move)), move.who ? ` by ${move.who}` : ""),
    move.why ? make("blockquote", {}, move.why) : null,
    waived(move.waived))));
}
