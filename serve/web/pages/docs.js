// Renders /openapi.json. What comes from the server is only ever set as text.
import { place } from "/pages/dom.js";
import { get, send } from "/pages/server.js";

function element(kind, text, parent) {
  const made = document.createElement(kind);
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
}

function showOperation(path, method, operation) {
  const box = element("details", undefined, place("operations"));
  const line = element("summary", undefined, box);
  element("b", method.toUpperCase(), line);
  element("code", path, line);
  element("span", operation.summary, line);
  for (const parameter of operation.parameters ?? []) {
    element("p", `${parameter.in} ${parameter.name}: ${parameter.description}`, box);
  }
  const content = operation.requestBody?.content?.["application/json"];
  if (content?.schema.$ref) element("p", `takes ${content.schema.$ref.split("/").pop()}`, box);
  const list = element("ul", undefined, box);
  for (const [status, answer] of Object.entries(operation.responses)) {
    element("li", `${status}: ${answer.description}`, list);
  }
}

function show(api) {
  document.title = place("title").textContent = api.info.title;
  place("description").textContent = api.info.description;
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, operation] of Object.entries(methods)) showOperation(path, method, operation);
  }
  for (const [name, schema] of Object.entries(api.components.schemas)) {
    const box = element("details", undefined, place("schemas"));
    element("summary", name, box);
    element("pre", JSON.stringify(schema, null, 2), box);
  }
  place("question").value = JSON.stringify(api.components.schemas.PredictRequest.examples[0], null, 1);
}

async function ask() {
  const began = performance.now();
  const body = place("question").value;
  try {
    const answer = await send("/predict", { method: "POST", headers: { "Content-Type": "application/json" }, body });
    place("answer").textContent = JSON.stringify(await answer.json(), null, 1);
    place("took").textContent = `${answer.status}, ${(performance.now() - began).toFixed(1)} ms seen from here`;
  } catch (error) {
    place("took").textContent = `no answer: ${error}`;
  }
}

place("ask").addEventListener("click", ask);
get("/openapi.json")
  .then((answer) => answer.json())
  .then(show)
  .catch((error) => (place("description").textContent = error.status === 401 ? "This server asks for its API key: type it into its page at /." : `not ready: ${error.message}`));
