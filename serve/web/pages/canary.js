// The version in production and the canary side by side, by what /metrics counts of each version.
import { head, make, place, replace, row } from "/pages/dom.js";
import { digest } from "/pages/overview.js";
import { get } from "/pages/server.js";
import { figures } from "/pages/versions.js";

export async function compare(served) {
  place("beside").hidden = !served.canary;
  if (!served.canary) return;
  const { canary } = served;
  const text = await (await get("/metrics")).text();
  const [left, right] = [figures(text, served.version), figures(text, canary.version)];
  const state = canary.state === "active" ? `${canary.share} % of the episodes` : `${canary.state}: ${canary.reason ?? "no episode begins with it yet"}`;
  const rest = canary.state === "active" ? Number((100 - canary.share).toFixed(2)) : 100;
  replace(place("canary"), [left, right, served.digest, canary], () => [
    head("", "in production", "canary"),
    make("tbody", {},
      row("version", served.version, canary.version ?? "–"),
      row("digest", digest(served.digest), canary.digest ? digest(canary.digest) : "–"),
      row("answers", `${rest} % of the episodes, and all that is no episode`, state),
      ...Object.keys(left).map((name) => row(name, String(left[name]), String(right[name] ?? "–")))),
  ]);
}
