// The form that asks the policy: an input for each field of its card, an episode for one with memory, and the answer.
import { answered, refused } from "/pages/answer.js";
import { make, place } from "/pages/dom.js";
import { fieldOf, size } from "/pages/fields.js";
import { send } from "/pages/server.js";

let card, fields = new Map(), told, state = "", steps = 0;

// Builds the form anew when the contract is another; what was typed stays otherwise.
export function form(shown) {
  told = shown;
  const contract = shown.metadata.contract;
  if (place("ask-form").dataset.contract === contract) return;
  place("ask-form").dataset.contract = contract;
  card = shown.metadata.card;
  fields = new Map(Object.entries(card.observation).map(([name, field]) => [name, fieldOf(name, field)]));
  place("fields").replaceChildren(...[...fields.values()].map((field) => field.box));
  place("options").replaceChildren(...options());
  begin();
}

function options() {
  const budget = make("div", { class: "field" }, make("label", { for: "budget" }, "Budget in ms ", make("span", { class: "quiet" }, "empty: none; past it comes the fallback")),
    make("input", { type: "number", id: "budget", min: 0, step: "any" }));
  const episode = make("div", { class: "field" }, make("label", { for: "episode" }, "Episode ", make("span", { class: "quiet" }, "an id, or empty: it is no part of one")),
    make("input", { type: "text", id: "episode", autocomplete: "off", spellcheck: "false", pattern: "[A-Za-z0-9._\\-]{1,128}", title: "letters, digits, '.', '_' and '-', at most 128" }));
  if (!card.state) return [budget, episode];
  const anew = make("button", { type: "button", class: "small" }, "Begin anew");
  anew.addEventListener("click", begin);
  return [budget, episode, make("p", { class: "field" }, "Its memory: ", make("span", { id: "steps", role: "status" }), " ", anew)];
}

function begin() {
  [state, steps] = ["", 0];
  if (card.state) place("steps").textContent = "the episode begins";
}

function request() {
  const observation = Object.fromEntries([...fields].map(([name, field]) => [name, field.get()]));
  if (card.state && state) observation.state = state;
  const budget = place("budget").value, episode = place("episode").value;
  const headers = { "Content-Type": "application/json", ...(episode && { "X-Episode-Id": episode }) };
  return { method: "POST", headers, body: JSON.stringify({ observations: [observation], ...(budget !== "" && { budget_ms: Number(budget) }) }) };
}

// The input that an error's field names, such as observations[0].sensors[3].
function mark(name) {
  for (const input of document.querySelectorAll("#fields [aria-invalid]")) input.removeAttribute("aria-invalid");
  const [, field, rest] = /^observations\[0\]\.(\w+)(.*)$/.exec(name ?? "") ?? [];
  const places = [...(rest ?? "").matchAll(/\[(\d+)\]/g)].map(([, index]) => Number(index));
  const shape = card.observation[field]?.shape ?? [];
  const input = fields.get(field)?.mark(places.reduce((sum, index, axis) => sum + index * size(shape.slice(axis + 1)), 0));
  if (input) {
    input.setAttribute("aria-invalid", "true");
    input.focus();
  }
}

async function ask(event) {
  event.preventDefault();
  const began = performance.now();
  let shown;
  try {
    const response = await send("/predict", request());
    const took = performance.now() - began, answer = await response.json().catch(() => undefined);
    if (response.ok) {
      shown = answered(told.columns, answer, took);
      if (card.state) {
        state = answer.actions[0].state;
        place("steps").textContent = `step ${(steps += 1)} is done; the next request goes on`;
      }
    } else shown = refused(told.columns, response.status, answer, told.errors);
    mark(answer?.error?.field);
  } catch (error) {
    shown = [make("p", { class: "bad" }, make("strong", {}, "There is no answer: "), error.message)];
  }
  place("answer").replaceChildren(...shown.filter(Boolean));
}

place("ask-form").addEventListener("submit", ask);
for (const kind of ["middle", "random"]) place(kind).addEventListener("click", () => fields.forEach((field) => field.set(kind)));
