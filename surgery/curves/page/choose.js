// What follows from the numbers alone, before anything is shown: `choose` does what Curve.choose does, and limits are
// said in the words of Python.
"use strict";
const rules = (() => {
  const COSTS = ["params", "macs", "latency", "bytes"];

  // How far a point is beyond each limit, relative to it; zero or less where it is within.
  const excesses = (point, limits, errors) => Object.entries(limits).map(([measure, limit]) =>
    (measure === "score" ? limit - (point.score - errors * (point.error || 0)) : point[measure] - limit)
      / (Math.abs(limit) || 1));

  const allExcesses = (points, limits, errors) => points.flatMap((point) => excesses(point, limits, errors));
  const worst = (point, limits, errors) => Math.max(...excesses(point, limits, errors));
  const within = (point, limits, errors) => excesses(point, limits, errors).every((excess) => excess <= 0);

  // The first of the points with the least key; keys are compared number by number.
  const least = (points, key) => points.reduce((best, point) => {
    const [a, b] = [key(point), key(best)];
    const at = a.findIndex((value, i) => value !== b[i]);
    return at >= 0 && a[at] < b[at] ? point : best;
  });

  function choose(points, limits, errors) {
    const fitting = points.filter((point) => within(point, limits, errors));
    if (!fitting.length) return null;
    const cheapest = (some) => least(some, (p) => [p.params, p.macs, -p.score]);
    if (Object.keys(limits).join() === "score") return cheapest(fitting);
    const best = least(fitting, (p) => [-p.score, p.params, p.macs]);
    return cheapest(fitting.filter((point) => point.score >= best.score - errors * (best.error || 0)));
  }

  const python = (limits, errors) => [...COSTS, "score"].filter((measure) => measure in limits)
    .map((measure) => `${measure === "score" ? "min" : "max"}_${measure}=${limits[measure]}`)
    .concat(errors ? [`errors=${errors}`] : []).join(", ");

  // ---- in words ----
  function phrase({ units, phrases, reference }, limits, measure) {
    const [unit, size] = units[measure];
    let amount = limits[measure] / size;
    let words = phrases[measure];
    if (measure === "score") {
      amount = Number(((reference - limits.score) / size).toFixed(unit ? 6 : 12));
      if (amount < 0) words = phrases.more;
    }
    const number = Number(Math.abs(amount).toPrecision(3));
    return words.replace("{}", () => `${number} ${number === 1 && unit === "points" ? "point" : unit}`.trim());
  }

  const listed = (words) => words.length > 1 ? `${words.slice(0, -1).join(", ")} and ${words.at(-1)}` : words.join();
  const limited = (facts, limits) => Object.keys(facts.phrases).filter((measure) => measure in limits);
  const phrases = (facts, limits, measures) => measures.map((measure) => phrase(facts, limits, measure));
  const luck = (facts, errors) => errors ? facts.words.luck : "";

  function asked(facts, limits, errors) {
    const told = listed(phrases(facts, limits, limited(facts, limits))) || facts.words.anything;
    return facts.words.asked.replace("{}", () => told + luck(facts, errors));
  }

  // The limits that no point is within: single ones, else pairs, else all of them together.
  function unmet(facts, limits, errors) {
    const measures = limited(facts, limits);
    const never = (some) => !facts.points.some((point) =>
      within(point, Object.fromEntries(some.map((measure) => [measure, limits[measure]])), errors));
    const alone = measures.filter((measure) => never([measure]));
    if (alone.length) return phrases(facts, limits, alone).join(" nor to ");
    const pairs = measures.flatMap((one, i) => measures.slice(i + 1).map((other) => [one, other])).filter(never);
    const both = pairs.map((pair) => `both ${phrases(facts, limits, pair).join(" and ")}`);
    return both.join(" nor to ") || `${listed(phrases(facts, limits, measures))} together`;
  }

  // How the point that is shown was picked.
  function how(facts, limits, errors, kind) {
    const told = kind === "none" ? unmet(facts, limits, errors)
      : listed(phrases(facts, limits, limited(facts, limits)));
    return facts.words.how[kind].replace("{}", () => told) + (["hand", "none"].includes(kind) ? "" : luck(facts, errors));
  }

  return { allExcesses, asked, choose, how, least, python, within, worst };
})();
