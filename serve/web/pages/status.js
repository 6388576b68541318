// The page's loop: asks for what it shows every two seconds, says when there is no answer, and goes on asking.
import { actions } from "/pages/actions.js";
import { compare } from "/pages/canary.js";
import { clock, number, percent, place, say } from "/pages/dom.js";
import { form } from "/pages/form.js";
import { bars, lines } from "/pages/lines.js";
import { marks, moves } from "/pages/moves.js";
import { facts, ms, tiles, versions, warnings } from "/pages/overview.js";
import { errorsByCode, History, latency, requests, share } from "/pages/series.js";
import { get, hasKey, Refusal, useKey } from "/pages/server.js";
import { shadow } from "/pages/shadow.js";

const EVERY_MS = 2000;
const history = new History();
let card, answeredAt, timer;

async function refresh() {
  const known = card ? `&card=${encodeURIComponent(card.digest)}` : "";
  const told = await (await get(`/dashboard?after=${history.after}${known}`)).json();
  answeredAt = Date.now() / 1000;
  history.merge(told.history);
  if (told.metadata?.card) card = { digest: told.metadata.digest, ...told.metadata };
  if (told.metadata) told.metadata.card = card.card;
  place("key-needed").hidden = true;
  place("known").hidden = false;
  say("ready", told.ready ? "ready" : `not ready: ${told.reason}`, told.ready ? "good" : "bad");
  warnings(told.warnings);
  versions(told);
  moves(told);
  tiles(history);
  plots(told);
  for (const part of ["drives", "actions", "ask"]) place(part).hidden = !told.metadata;
  showLinks();
  if (!told.metadata) return;
  say("title", `${told.metadata.card.name} ${told.metadata.version}`);
  document.title = `${told.ready ? "" : "not ready: "}${place("title").textContent}`;
  facts(told);
  form(told);
  shadow(told.metadata.shadow);
  await compare(told.metadata);
}

function plots(told) {
  const points = history.points(), shared = { points, marks: marks(told) };
  const of = (value) => points.map(value), named = (section) => [...new Set(points.flatMap((point) => Object.keys(point[section] ?? {})))];
  const shares = (section) => Object.fromEntries(named(section).map((name) => [name, of((point) => share(point, section, name))]));
  say("history-text", `Up to ${clock(points.at(-1).at + points.at(-1).seconds)}, one point for each ${points[0].seconds} seconds.`);
  lines("requests", "plots", { ...shared, title: "Requests per second", series: { "requests/s": of((point) => (point.isKnown ? requests(point) / point.seconds : undefined)) } });
  lines("latency", "plots", { ...shared, title: "Latency in the server", note: "Estimated within the buckets of a histogram; the axis is logarithmic.", log: true, format: ms, series: { p50: of((point) => latency(history, point, 0.5)), p99: of((point) => latency(history, point, 0.99)) } });
  const codes = [...new Set(points.flatMap((point) => errorsByCode(point).map(([code]) => code)))].sort();
  const meaning = (code) => `${code} ${Object.keys(told.errors[code] ?? {}).join(", ").replaceAll("_", " ")}`;
  const count = (point, code) => point.codes?.[code]?.[0] ?? 0;
  bars("errors", "plots", { ...shared, title: "Errors by code", note: "A 504 is answered with the card's fallback.", series: Object.fromEntries(codes.map((code) => [meaning(code), of((point) => count(point, code))])) });
  const fallbacks = of((point) => (requests(point) ? count(point, "504") / requests(point) : undefined));
  lines("fallbacks", "plots", { ...shared, title: "Fallbacks", format: percent, least: 0.01, note: "The share of requests that got the fallback instead of an action.", series: { fallbacks } });
  lines("saturation", "plots", { ...shared, title: "Saturation", format: percent, least: 0.01, note: "The share of values at full pedal or full lock.", series: shares("saturated") });
  lines("outside", "plots", { ...shared, title: "Out of range", format: percent, least: 0.01, note: "The share of values outside what training saw or, where that is unknown, the inner 99 % of the bounds.", series: shares("outside") });
  const more = actions(told.columns, history, points, shared.marks);
  if (more) say("actions-more", `${number(more)} more values are in /metrics.`);
}

// Links to parts that are there.
function showLinks() {
  for (const link of document.querySelectorAll('nav a[href^="#"]')) {
    const part = place(link.hash.slice(1)).closest("section");
    link.hidden = part.hidden || place("known").hidden;
  }
}

// Says why there is nothing new; what is shown stays, and is marked as old.
function explain(error) {
  const asksKey = error.status === 401;
  place("key-needed").hidden = !asksKey;
  document.documentElement.classList.toggle("stale", !asksKey && answeredAt !== undefined);
  if (asksKey) {
    place("known").hidden = true;
    say("key-text", hasKey() ? "The server refused this key. Is it the value of its POLICY_API_KEY?" : "This server asks for its API key (its POLICY_API_KEY). It is kept until this tab is closed.");
    say("ready", "asks for its API key", "bad");
    showLinks();
    if (document.activeElement === document.body) place("key").focus();
    return;
  }
  const since = answeredAt === undefined ? "" : ` since ${clock(answeredAt)}`;
  say("ready", `no answer${since}: ${error.message}; trying again every ${EVERY_MS / 1000} s`, "bad");
}

async function goOn() {
  clearTimeout(timer);
  try {
    if (!document.hidden) {
      await refresh();
      document.documentElement.classList.remove("stale");
    }
  } catch (error) {
    if (!(error instanceof Refusal)) console.error(error);
    explain(error);
    if (error.status === 401) return; // until a key is typed
  }
  timer = setTimeout(goOn, EVERY_MS);
}

place("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey(place("key").value.trim());
  goOn();
});
place("theme").value = document.documentElement.dataset.theme ?? "";
place("theme").addEventListener("change", ({ target: { value } }) => {
  if (value) document.documentElement.dataset.theme = value;
  else delete document.documentElement.dataset.theme;
  try { localStorage.setItem("carla-theme", value); } catch { /* it is kept while the page is open */ }
});
document.addEventListener("visibilitychange", () => document.hidden || goOn());
goOn();
