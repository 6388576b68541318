// What /metrics counts of one version, in the words and by the rules of alarms and of `carla-registry compare`.

// Series of one version: name → [labels, value] for each.
function seriesOf(text, version) {
  const found = {};
  for (const line of text.split("\n")) {
    const parts = /^(\w+)\{(.*)\} (\S+)$/.exec(line);
    if (!parts) continue;
    const labels = Object.fromEntries([...parts[2].matchAll(/(\w+)="([^"]*)"/g)].map(([, key, value]) => [key, value]));
    if (labels.version === version) (found[parts[1]] ??= []).push([labels, Number(parts[3])]);
  }
  return found;
}

function sum(series, fits = () => true) {
  return (series ?? []).reduce((total, [labels, value]) => total + (fits(labels) ? value : 0), 0);
}

function part(count, of) {
  return of ? `${count} (${((100 * count) / of).toFixed(2)} %)` : String(count);
}

// The least bound, in milliseconds, below which a share of the predictions were answered; needs the label `version`.
function within(series, share) {
  const buckets = (series ?? []).filter(([labels]) => labels.part === "total");
  const all = sum(buckets, (labels) => labels.le === "+Inf");
  const bounds = buckets.filter(([, count]) => all && count >= share * all).map(([labels]) => (labels.le === "+Inf" ? Infinity : Number(labels.le)));
  const least = Math.min(...bounds);
  return !bounds.length ? "–" : least === Infinity ? "more than 5000 ms" : `${1e3 * least} ms`;
}

export const PREDICTION_ROUTES = ["/predict", "/invocations", "/v2/models/{name}/infer"];

export function figures(text, version) {
  const series = seriesOf(text, version);
  const isPrediction = (labels) => PREDICTION_ROUTES.includes(labels.route);
  const requests = sum(series.policy_requests_total, isPrediction);
  const errors = sum(series.policy_requests_total, (labels) => isPrediction(labels) && Number(labels.code) >= 400);
  const shown = { requests, errors: part(errors, requests), actions: sum(series.policy_actions_total) };
  if (series.policy_latency_seconds_bucket) shown["99 % within"] = within(series.policy_latency_seconds_bucket, 0.99);
  if (series.policy_fallbacks_total) shown.fallbacks = part(sum(series.policy_fallbacks_total), requests);
  const dimensions = series.policy_saturated_total; // one series each: a share of the values that were given
  if (dimensions) shown.saturated = part(sum(dimensions), shown.actions * dimensions.length);
  return shown;
}
