// Plots of numbers over time: lines on a linear or a logarithmic axis, and bars that stand on each other.
import { draw, number } from "/pages/dom.js";
import { figure, legend, round, show, ticks } from "/pages/plot.js";

const last = (values) => values.findLast((value) => value !== undefined);

function path(values, x, y) {
  let text = "", isDown = false;
  values.forEach((value, index) => {
    if (value !== undefined) text += `${isDown ? "L" : "M"}${(x(index) + x(index + 1)) / 2} ${y(value)}`;
    isDown = value !== undefined;
  });
  return text;
}

// A lone point among gaps is no line: it gets a dot.
function dots(values, x, y, kind) {
  const alone = (index) => values[index] !== undefined && values[index - 1] === undefined && values[index + 1] === undefined;
  return values.flatMap((value, index) => (alone(index) ? [draw("circle", { class: `dot ${kind}`, cx: (x(index) + x(index + 1)) / 2, cy: y(value), r: 2.5 })] : []));
}

// series: name → one value for each point, undefined where there is none. `least` is the smallest top of the axis.
export function lines(id, into, { title, note, points, series, marks, format = number, least = 1, log = false }) {
  const made = figure(id, into, title, note), names = Object.keys(series);
  const every = Object.values(series).flat().filter((value) => value !== undefined);
  const axis = log ? logAxis(every, format) : linearAxis(Math.max(least, ...every), format);
  const values = Object.values(series).map((each) => format(last(each)));
  legend(made, names.length > 1 ? names : [], values);
  show(made, {
    points, marks, names, y: axis.ticks,
    rows: points.map((_, index) => Object.values(series).map((each) => format(each[index]))),
    value: !every.length ? "nothing yet" : names.length > 1 ? "" : values[0],
    summary: every.length ? names.map((name, index) => `${name} ${values[index]} now, at most ${format(most(series[name]))}`).join("; ") : "nothing yet",
    paint(group, x, y) {
      Object.values(series).forEach((each, index) => {
        const heights = each.map((value) => (value === undefined ? undefined : axis.share(value)));
        if (names.length === 1) group.append(draw("path", { class: "area", d: area(heights, x, y) }));
        group.append(draw("path", { class: `line s${index % 6}`, d: path(heights, x, y) }), ...dots(heights, x, y, `s${index % 6}`));
      });
    },
  });
}

const most = (values) => Math.max(...values.filter((value) => value !== undefined));

function area(heights, x, y) {
  return heights.map((height, index) => (height ? `M${x(index)} ${y(0)}V${y(height)}H${x(index + 1)}V${y(0)}Z` : "")).join("");
}

function linearAxis(highest, format) {
  const top = round(highest);
  return { ticks: ticks(top, format), share: (value) => Math.min(1, value / top) };
}

// At least two decades, so that noise does not look like a change.
function logAxis(values, format) {
  const shown = values.filter((value) => value > 0);
  let low = Math.floor(Math.log10(Math.min(1, ...shown))), high = Math.ceil(Math.log10(Math.max(10, ...shown)));
  if (high - low < 2) low = high - 2;
  const marks = Array.from({ length: high - low + 1 }, (_, index) => [index / (high - low), format(10 ** (low + index))]);
  return { ticks: marks, share: (value) => Math.min(1, Math.max(0, (Math.log10(Math.max(value, 1e-9)) - low) / (high - low))) };
}

// series: name → one count for each point.
export function bars(id, into, { title, note, points, series, marks, format = number }) {
  const made = figure(id, into, title, note), names = Object.keys(series);
  const totals = points.map((_, index) => Object.values(series).reduce((sum, each) => sum + each[index], 0));
  const top = round(Math.max(1, ...totals));
  const sums = Object.values(series).map((each) => number(each.reduce((sum, value) => sum + value, 0)));
  legend(made, names, sums, "bar");
  show(made, {
    points, marks, names, y: ticks(top, format),
    rows: points.map((_, index) => Object.values(series).map((each) => format(each[index]))),
    value: names.length ? "" : "none",
    summary: names.length ? names.map((name, index) => `${name}: ${sums[index]}`).join("; ") : "none",
    paint(group, x, y, step) {
      const below = points.map(() => 0);
      Object.values(series).forEach((each, kind) => each.forEach((value, index) => {
        if (!value) return;
        const height = y(below[index] / top) - y((below[index] + value) / top);
        group.append(draw("rect", { class: `bar s${kind % 6}`, x: x(index), width: Math.max(1.5, step - 1), y: y((below[index] + value) / top), height: Math.max(1, height) }));
        below[index] += value;
      }));
    },
  });
}
