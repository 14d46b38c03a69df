// @ts-check
/**
 * What the page's blocks hold of single pairs: texts, listed features, scores on the prompt.
 *
 * @import { TableBlock } from "./overview.d.ts"
 */
import { decoded, decodedJson, hasBlock, overview } from "./blocks.js";

/**
 * A feature that a pair lists; numbers that the run lacks are NaN.
 *
 * @typedef {{feature: number, score: number, effect: number, relative_size: number,
 *   activation: number, base_activation: number}} Listed
 * @typedef {{prompt: string | null, response: string | null, base: string | null}} PairTexts
 */

const LISTED = /** @type {const} */ ([
  "feature",
  "score",
  "effect",
  "relative_size",
  "activation",
  "base_activation",
]);

/** @param {number} result @param {number} pair @returns {Promise<PairTexts>} */
export async function textsOf(result, pair) {
  const { of, first } = overview.results[result].texts;
  const block = blockOf(first, pair);
  const { texts, pairs } = await decodedJson(`r${of}-texts-${block}`);
  const [prompt, response, base] = (pairs[pair - first[block]] ?? [])
    .map((/** @type {number | null} */ place) => texts[place ?? -1] ?? null);
  return { prompt: prompt ?? null, response: response ?? null, base: base ?? null };
}

/**
 * Reads every text, one block at a time so that the page stays responsive; returns what a search
 * reads of a pair.
 *
 * @param {number} result
 * @returns {Promise<(pair: number) => string>}
 */
export async function searchedTexts(result) {
  const { of, first } = overview.results[result].texts;
  /** @type {string[]} */
  const all = [];
  for (const block of first.keys()) {
    const { texts, pairs } = await decodedJson(`r${of}-texts-${block}`);
    for (const places of pairs) {
      all.push(
        places.map((/** @type {number | null} */ place) => texts[place ?? -1] ?? "").join("\n"),
      );
    }
  }
  return (pair) => all[pair] ?? "";
}

/**
 * The features that a pair lists, in the order of the result file, without those of score 0 that
 * only fill the list.
 *
 * @param {number} result
 * @param {number} pair
 * @returns {Promise<Listed[]>}
 */
export async function listedOf(result, pair) {
  if (!hasBlock(`r${result}-listed`)) {
    return [];
  }
  const listed = await decoded(`r${result}-listed`);
  const rows = [];
  for (let row = listed.columns.start[pair]; row < listed.columns.start[pair + 1]; row++) {
    rows.push(listedRow(listed, row));
  }
  return rows.filter(counts);
}

/**
 * The pairs that list a feature, with its numbers there.
 *
 * @param {number} result
 * @param {number} feature
 * @returns {Promise<Map<number, Listed>>}
 */
export async function pairsListing(result, feature) {
  if (!hasBlock(`r${result}-listed`)) {
    return new Map();
  }
  const listed = await decoded(`r${result}-listed`);
  const { start, feature: features } = listed.columns;
  const pairs = new Map();
  for (let pair = 0; pair + 1 < start.length; pair++) {
    for (let row = start[pair]; row < start[pair + 1]; row++) {
      if (features[row] === feature && counts(listedRow(listed, row))) {
        pairs.set(pair, listedRow(listed, row));
      }
    }
  }
  return pairs;
}

/** The effect of a feature in a pair, or its score where no removal measured it. @param {Listed} row */
export function bestOf(row) {
  return Number.isNaN(row.effect) ? row.score : row.effect;
}

/**
 * @param {number} result
 * @param {number} pair
 * @returns {Promise<{tokens: string[], features: Record<string, [number, number][]>} | null>} null if
 *   the run did not read all positions, or has no scores of the pair
 */
export async function positionsOf(result, pair) {
  const { positions } = overview.results[result];
  if (!positions) {
    return null;
  }
  const block = blockOf(positions.first, pair);
  const pairs = await decodedJson(`r${result}-positions-${block}`);
  return pairs[pair - positions.first[block]] ?? null;
}

/** @param {number[]} first pair of each block @param {number} pair */
function blockOf(first, pair) {
  return first.findLastIndex((start) => start <= pair);
}

/** @param {TableBlock} listed @param {number} row @returns {Listed} */
function listedRow(listed, row) {
  const numbers = LISTED.map((name) => [name, listed.columns[name]?.[row] ?? NaN]);
  return /** @type {Listed} */ (Object.fromEntries(numbers));
}

/** @param {Listed} row */
function counts(row) {
  return row.score !== 0 || row.effect > 0 || row.effect < 0;
}
