// An answer of the policy, or why there is none, in words.
import { draw, make, number, row, short } from "/pages/dom.js";

// Where a value lies between its bounds, from zero where that is between them.
function gauge(column, value) {
  const at = (each) => (100 * (each - column.low)) / (column.high - column.low || 1);
  const zero = at(Math.min(column.high, Math.max(column.low, 0))), here = Math.min(100, Math.max(0, at(value)));
  return draw("svg", { class: "gauge", viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" },
    draw("rect", { class: "back", width: 100, height: 8 }),
    draw("rect", { class: "bar s0", x: Math.min(zero, here), width: Math.max(0.8, Math.abs(here - zero)), height: 8 }));
}

function actionRows(columns, action) {
  return columns.map((column) => {
    const value = action[column.name];
    if (!column.choices) return row(column.name, gauge(column, value), number(value));
    const label = typeof value === "object" ? `${value.choice} (${value.index})` : column.name === "choice" && action.index !== undefined ? `${value} (${action.index})` : String(value);
    return row(column.name, make("strong", {}, label), `one of ${column.choices}`);
  });
}

const table = (columns, action, caption) =>
  make("table", { class: "actions" }, make("caption", {}, caption), make("tbody", {}, ...actionRows(columns, action)));

export function answered(columns, told, took) {
  const { queue, inference, total } = told.timing_ms;
  return [
    table(columns, told.actions[0], "Action"),
    make("p", {}, "answered by ", make("strong", {}, told.version), " (", make("code", { title: told.digest }, short(told.digest)), `), ${number(took)} ms there and back`),
    make("p", { class: "quiet" }, `in the server ${number(total)} ms: waited ${number(queue)}, forward ${number(inference)}`),
    raw(told),
  ];
}

function raw(told) {
  return make("details", {}, make("summary", {}, "The whole answer"), make("pre", {}, JSON.stringify(told, null, 1)));
}

const ADVICE = {
  unauthorized: "The key is missing or wrong.",
  invalid_observation: "The observation does not fit the card.",
  overloaded: "The server has more requests than it takes at once. Ask again in a moment.",
  not_ready: "No verified policy is loaded yet.",
  deadline_exceeded: "The answer came too late for the budget. A car now does what the card's fallback says.",
  state_of_another_version: "The episode was begun by a version that no longer answers. Begin it anew.",
  episode_of_another_version: "The episode was begun by a version that no longer answers. Begin it anew.",
};

export function refused(columns, status, told, meanings) {
  const { code = "", message = "the server did not say why", field } = told?.error ?? {};
  const advice = ADVICE[code] ?? meanings[status]?.[code] ?? `The server answered with status ${status}.`;
  return [
    make("p", { class: "bad" }, make("strong", {}, advice)),
    make("p", {}, field ? make("code", {}, field) : "", field ? ` ${message}` : message),
    told?.fallback ? table(columns, told.fallback, "Fallback") : null,
    make("p", { class: "quiet" }, `status ${status}, ${code}`),
    raw(told ?? {}),
  ];
}
