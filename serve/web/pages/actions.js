// What the policy answers, over time: a row for each range of values or for each choice, darker where it is more often.
import { draw, number, percent } from "/pages/dom.js";
import { figure, show } from "/pages/plot.js";
import { quantile } from "/pages/series.js";

const SHADES = 6;
const MAX_FIGURES = 12;

export function actions(columns, history, points, marks) {
  for (const column of columns.slice(0, MAX_FIGURES)) {
    const counts = points.map((point) => point.actions?.[column.key]);
    const drawn = column.choices ? choices(column) : continuous(column, history.bounds.actions);
    plot(column, counts, points.map((point) => point.saturated?.[column.name]?.[0] ?? 0), drawn, points, marks);
  }
  return Math.max(0, columns.length - MAX_FIGURES);
}

// How the rows of a column of numbers are drawn: buckets from its lowest value to its highest.
function continuous(column, bounds) {
  const first = column.is_unit ? bounds.findIndex((bound) => bound >= column.low) : 0;
  const back = (value) => (column.is_unit ? value : column.low + ((value + 1) / 2) * (column.high - column.low));
  const [low, high] = column.is_unit ? [bounds[first], 1] : [-1, 1];
  const lowest = low - (bounds[1] - bounds[0]); // the first bucket holds the bound itself
  const at = (value) => (value - lowest) / (high - lowest);
  return {
    rows: bounds.length - first,
    first,
    ticks: [low, (low + high) / 2, high].map((value) => [at(value), number(back(value))]),
    middle: (counts, saturated) => middle(bounds, counts, column.low < 0 ? saturated - counts[0] : saturated, lowest),
    say: (value) => number(back(Math.max(low, value))),
    at,
    word: column.name === "steer" ? `${number(back(low))} is left, ${number(back(high))} right` : "",
  };
}

// The median; the bound itself where half of the values lie there, which the bucket below it does not tell.
function middle(bounds, counts, atHigh, lowest) {
  const all = counts.reduce((sum, count) => sum + count, 0);
  return atHigh > all / 2 ? bounds.at(-1) : quantile(bounds, counts, 0.5, lowest);
}

function choices(column) {
  const names = column.labels.length ? column.labels : Array.from({ length: column.choices }, (_, index) => String(index));
  const ticks = names.length <= 8 ? names.map((name, index) => [(index + 0.35) / names.length, name.length > 7 ? `${name.slice(0, 6)}…` : name]) : [];
  const most = (counts) => counts.indexOf(Math.max(...counts));
  return { rows: names.length, first: 0, ticks, middle: most, say: (index) => names[index], at: undefined, word: ticks.length ? "" : names.join(", ") };
}

function plot(column, counts, saturated, drawn, points, marks) {
  const made = figure(`of-action-${column.name}`, "action-plots", column.name, drawn.word);
  const middles = counts.map((each, index) => (each?.some(Boolean) ? drawn.middle(each, saturated[index]) : undefined));
  const latest = middles.findLast((value) => value !== undefined);
  const texts = middles.map((value, index) => (value === undefined ? "–" : text(drawn, value, counts[index])));
  const value = latest === undefined ? "no action yet" : texts.findLast((each) => each !== "–");
  show(made, {
    points, marks, names: [column.choices ? "most often" : "median"], rows: texts.map((each) => [each]), y: drawn.ticks, value, summary: value,
    paint(group, x, y, step) {
      cells(group, counts, drawn, x, y, step);
      if (!drawn.at) return;
      let line = "";
      middles.forEach((middle, index) => {
        if (middle !== undefined) line += `${line && middles[index - 1] !== undefined ? "L" : "M"}${x(index)} ${y(drawn.at(middle))}H${x(index + 1)}`;
      });
      group.append(draw("path", { class: "median", d: line }));
    },
  });
}

function text(drawn, middle, counts) {
  if (drawn.at) return drawn.say(middle);
  return `${drawn.say(middle)} (${percent(counts[middle] / counts.reduce((sum, count) => sum + count, 0))})`;
}

// One path for each shade: there may be thousands of cells.
function cells(group, counts, drawn, x, y, step) {
  const shades = Array.from({ length: SHADES }, () => "");
  counts.forEach((each, index) => {
    const all = (each ?? []).reduce((sum, count) => sum + count, 0);
    for (let row = 0; row < drawn.rows && all; row += 1) {
      const part = (each[drawn.first + row] ?? 0) / all;
      if (!part) continue;
      const shade = Math.min(SHADES - 1, Math.floor(Math.sqrt(part) * SHADES));
      shades[shade] += `M${x(index)} ${y(row / drawn.rows)}V${y((row + 1) / drawn.rows)}h${step}V${y(row / drawn.rows)}Z`;
    }
  });
  shades.forEach((d, shade) => { if (d) group.append(draw("path", { class: "cell", "fill-opacity": 0.18 + (0.82 * shade) / (SHADES - 1), d })); });
}
