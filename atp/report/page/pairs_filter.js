// @ts-check
/**
 * Which pairs of a result a filter keeps. A filter's fields are parameters of an address.
 *
 * @import { TableBlock } from "./overview.d.ts"
 */

/**
 * `poor`: only pairs with less variance explained than that; `feature`: only pairs that list it.
 *
 * @typedef {Partial<Record<"template" | "dataset" | "outcome" | "poor" | "feature", string>>} PairFilter
 */

/** The value of a filter that keeps the pairs without a template or dataset. */
export const WITHOUT = "(none)";

/**
 * A text column's value in a row; null if it has none.
 *
 * @param {TableBlock} block
 * @param {string} name
 * @param {number} row
 */
export function textIn(block, name, row) {
  return block.values[name]?.[block.columns[name][row]] ?? null;
}

/**
 * The values of a text column that occur.
 *
 * @param {TableBlock} block
 * @param {string} name
 * @returns {string[]}
 */
export function valuesOf(block, name) {
  const codes = new Set(block.columns[name] ?? []);
  return [...codes].map((code) => block.values[name][code] || WITHOUT).sort();
}

/**
 * Returns whether a pair is kept.
 *
 * @param {TableBlock} pairs
 * @param {PairFilter} filter
 * @param {{ has(pair: number): boolean }} listing the pairs that list the filter's feature
 * @returns {(pair: number) => boolean}
 */
export function keeps(pairs, filter, listing) {
  const explained = pairs.columns.variance_explained;
  const poor = Number(filter.poor);
  /** @param {string | undefined} wanted @param {string} column @param {number} pair */
  const is = (wanted, column, pair) =>
    !wanted || wanted === (textIn(pairs, column, pair) || WITHOUT);
  return (pair) =>
    is(filter.template, "template_type", pair) &&
    is(filter.dataset, "dataset", pair) &&
    is(filter.outcome, "outcome", pair) &&
    (!filter.poor || explained?.[pair] < poor) &&
    (!filter.feature || listing.has(pair));
}
