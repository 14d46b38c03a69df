// @ts-check
/**
 * How far to trust the scores of a pair: each diagnostic as a level and a sentence.
 * docs/results.md has the meaning of the numbers, and docs/method.md the thresholds of sizes.
 *
 * @import { Listed } from "./pair_blocks.js"
 */
import { percent, shown } from "./numbers.js";

/**
 * `key` and `values` are for t().
 *
 * @typedef {"good" | "doubtful" | "bad" | "note"} Level
 * @typedef {{name: string, level: Level, key: string, values: Record<string, string | number>}} Judgement
 */

const EXPLAINED = { good: 0.8, bad: 0.5 };
const OUTSIDE = { doubtful: 0.25, bad: 0.5 };
const STEP = { doubtful: 0.1, bad: 0.3 };

/**
 * @param {(name: string) => number | undefined} number a diagnostic by its name; NaN or undefined
 *   where the result lacks it
 * @param {Listed[]} listed
 * @param {string | null} boundary
 * @returns {Judgement[]}
 */
export function judgements(number, listed, boundary) {
  return [
    explained(known(number("variance_explained"))),
    outside(number),
    step(listed),
    ...measured(number, listed),
    complete(number),
    boundary === "split" ? judgement("boundary", "doubtful") : null,
    active(known(number("n_active"))),
  ].filter((found) => found !== null);
}

/**
 * @param {string} name
 * @param {Level} level
 * @param {Record<string, string | number>} [values]
 * @returns {Judgement}
 */
function judgement(name, level, values = {}) {
  return { name, level, key: `pairs.d_${name}_${level}`, values };
}

/** @param {number | undefined} value @returns {number | null} */
function known(value) {
  return value === undefined || Number.isNaN(value) ? null : value;
}

/** @param {number | null} value */
function explained(value) {
  if (value === null) {
    return null;
  }
  const level = value >= EXPLAINED.good ? "good" : value >= EXPLAINED.bad ? "doubtful" : "bad";
  return judgement("variance", level, { value: percent(value) });
}

/** @param {(name: string) => number | undefined} number */
function outside(number) {
  const names = ["sae_error", "features", "bias", "skip"];
  const [error, features, bias, skip] = names.map((name) => known(number(name)));
  const sizes = [error, features, bias, skip].map((share) => Math.abs(share ?? 0));
  const total = sizes.reduce((sum, size) => sum + size);
  if (error === null || total === 0) {
    return null;
  }
  const share = sizes[0] / total;
  const level = share < OUTSIDE.doubtful ? "good" : share < OUTSIDE.bad ? "doubtful" : "bad";
  const values = { error: shown(error), features: shown(features), bias: shown(bias) };
  return judgement("error", level, { share: percent(share), ...values });
}

/** @param {Listed[]} listed */
function step(listed) {
  const sized = listed.filter((row) => !Number.isNaN(row.relative_size));
  if (sized.length === 0) {
    return null;
  }
  const unchecked = sized.filter((row) => Number.isNaN(row.effect));
  if (unchecked.length === 0) {
    return { ...judgement("size", "good"), key: "pairs.d_size_measured" };
  }
  const largest = unchecked.reduce((a, b) => (b.relative_size > a.relative_size ? b : a));
  const size = largest.relative_size;
  const level = size <= STEP.doubtful ? "good" : size <= STEP.bad ? "doubtful" : "bad";
  return judgement("size", level, { value: shown(size), feature: largest.feature });
}

/** @param {(name: string) => number | undefined} number @param {Listed[]} listed */
function measured(number, listed) {
  const removed = listed.filter((row) => !Number.isNaN(row.effect));
  if (removed.length === 0) {
    return [];
  }
  const wrong = removed.filter((row) => row.effect * row.score < 0).length;
  const unchecked = shown(known(number("exact.unchecked")));
  const found = [
    judgement("exact", wrong ? "doubtful" : "good", { n: removed.length, wrong, unchecked }),
  ];
  const noise = known(number("exact.noise_floor")) ?? 0;
  const drowned = removed.filter((row) => Math.abs(row.effect) < noise).length;
  if (drowned > 0) {
    found.push(judgement("noise", "doubtful", { value: shown(noise), n: drowned }));
  }
  return found;
}

/** @param {(name: string) => number | undefined} number */
function complete(number) {
  const gap = known(number("path.completeness_gap"));
  if (gap === null) {
    return null;
  }
  return judgement("path", gap <= 0.05 ? "good" : "bad", { gap: percent(gap) });
}

/** @param {number | null} n */
function active(n) {
  return n === null ? null : judgement("active", "note", { n: shown(n) });
}
