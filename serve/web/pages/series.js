// The counts of the last fifteen minutes, and what they tell. Pure: nothing here is drawn.
export const GROUP = 2; // slots in one point of a plot: ten seconds

export class History {
  counts = new Map();
  now = 0;

  // Adds what the server answered; a slot that comes again is complete now.
  merge(told) {
    if (told.server !== this.server) this.counts.clear(); // it was started anew, or another one answers
    Object.assign(this, { server: told.server, now: told.now, slotS: told.slot_s, slots: told.slots, began: told.began, begins: told.now_begins, bounds: told.bounds });
    for (const [slot, counts] of Object.entries(told.counts)) this.counts.set(Number(slot), counts);
    for (const slot of this.counts.keys()) if (slot <= this.now - this.slots) this.counts.delete(slot);
  }

  // The last slots are asked for again: not every worker had written down what it counted in them.
  get after() {
    return Math.max(0, this.now - 4);
  }

  // The counts of some slots together, from one to before another.
  sum(from, to) {
    const found = {};
    for (let slot = from; slot < to; slot += 1) add(found, this.counts.get(slot));
    return found;
  }

  // The last minute that is over.
  minute() {
    return this.sum(this.now - 60 / this.slotS, this.now);
  }

  all() {
    return this.sum(this.now - this.slots, this.now + 1);
  }

  // One entry for each point of a plot, the oldest first: when it began, and its counts.
  points(size = GROUP) {
    const last = this.now - (this.now % size); // a point is drawn once it is over
    const points = [];
    for (let from = last - this.slots + size; from < last; from += size) {
      const at = this.begins - (this.now - from) * this.slotS;
      const counts = this.sum(from, from + size); // a server that had not begun yet had no requests, rather than none a second
      points.push({ at, seconds: size * this.slotS, isKnown: from >= this.began || counts.codes !== undefined, ...counts });
    }
    return points;
  }
}

function add(found, counts) {
  for (const [section, named] of Object.entries(counts ?? {})) {
    const mine = (found[section] ??= {});
    for (const [name, values] of Object.entries(named)) {
      mine[name] = mine[name] ? mine[name].map((value, index) => value + values[index]) : values;
    }
  }
}

const total = (values) => (values ?? []).reduce((sum, value) => sum + value, 0);

export const requests = (point) => total(Object.values(point.codes ?? {}).map(total));

export const withCode = (point, fits) =>
  total(Object.entries(point.codes ?? {}).map(([code, [count]]) => (fits(Number(code)) ? count : 0)));

// The value below which a share of what was counted lies, as if it were spread evenly within each bucket.
export function quantile(bounds, counts, share, lowest = 0) {
  const all = total(counts);
  if (!all) return undefined;
  let before = 0;
  for (const [index, count] of counts.entries()) {
    if (count && before + count >= share * all) {
      const low = index ? bounds[index - 1] : Math.min(lowest, bounds[0]);
      const high = index < bounds.length ? bounds[index] : bounds[bounds.length - 1];
      return low + ((high - low) * (share * all - before)) / count;
    }
    before += count;
  }
  return undefined;
}

export const latency = (history, point, share) => {
  const seconds = quantile(history.bounds.latency, point.latency?.total ?? [], share);
  return seconds === undefined ? undefined : 1e3 * seconds;
};

// Events among values, of one name or of all together; undefined without a value.
export function share(point, section, name) {
  const named = point[section] ?? {};
  const pairs = name === undefined ? Object.values(named) : [named[name] ?? [0, 0]];
  const values = total(pairs.map(([, all]) => all));
  return values ? total(pairs.map(([events]) => events)) / values : undefined;
}

// Each code that was answered and is no success → how often, the smallest code first.
export function errorsByCode(point) {
  return Object.entries(point.codes ?? {}).map(([code, [count]]) => [code, count]).filter(([code]) => Number(code) >= 400).sort();
}
