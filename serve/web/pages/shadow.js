// What another version would have done: its differences from what was answered, beside the latest version in production.
import { draw, make, number, place, say } from "/pages/dom.js";

export function shadow(found) {
  place("shadow").hidden = !found;
  if (!found) return;
  const who = found.version ? `${found.name} ${found.version}` : found.following;
  say("shadow-state", found.up ? `${who} is compared` : `${who} is not compared: ${found.reason}`, found.up ? "good" : "bad");
  const skipped = Object.values(found.skipped).reduce((sum, rows) => sum + rows, 0);
  const beside = found.beside[found.beside.length - 1];
  const share = (count) => (beside && beside.rows ? `${((100 * count) / beside.rows).toFixed(2)} %` : "none");
  const compared = beside ? `${beside.rows} rows beside ${beside.version}, ${share(beside.disagreements)} disagree; ` : "";
  say("shadow-found", `${compared}${skipped} rows could not be compared`);
  for (const dimension of beside ? beside.figures.dimensions : []) histogram(dimension);
}

function histogram(dimension) {
  const id = `of-shadow-${dimension.name}`;
  const text = `difference of ${dimension.name}: mean ${number(dimension.mean)}, 99 % within ${number(dimension.p99)}, at most ${number(dimension.max)}`;
  if (!place(id)) {
    const svg = draw("svg", { id, viewBox: "0 0 300 100", preserveAspectRatio: "none", role: "img", "aria-labelledby": `${id}-text` });
    place("shadow-plots").append(make("figure", {}, make("figcaption", { id: `${id}-text` }), svg, make("p", { class: "quiet note", id: `${id}-bars` })));
  }
  say(`${id}-text`, text);
  const shown = dimension.histogram.filter(([bound]) => bound !== null);
  say(`${id}-bars`, `The bars, from the left: rows that differ by at most ${shown.map(([bound]) => number(bound)).join(", ")}, and by more than those before.`);
  const most = Math.max(1, ...shown.map(([, count]) => count)), width = 300 / Math.max(1, shown.length);
  place(id).replaceChildren(
    ...shown.map(([, count], index) => draw("rect", { class: "bar s0", x: index * width + 1, y: 98 - (95 * count) / most, width: width - 2, height: (95 * count) / most })),
    draw("line", { class: "base", x1: 0, y1: 98, x2: 300, y2: 98 }));
}
