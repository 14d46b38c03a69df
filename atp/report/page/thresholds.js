// @ts-check
/**
 * The thresholds of a selection, and which features are above them. Knows nothing of the page.
 *
 * @import { Selection, TableBlock } from "./overview.d.ts"
 */

/**
 * A feature passes if its numbers are above these; null asks for nothing.
 *
 * @typedef {{ min_score: number | null, min_log_ratio: number | null }} Thresholds
 * @typedef {keyof Thresholds} ThresholdName
 */

/** @type {Record<ThresholdName, string>} */
export const COLUMN_OF = { min_score: "mean_best", min_log_ratio: "log_ratio" };
/** @type {ThresholdName[]} */
export const NAMES = ["min_score", "min_log_ratio"];
const DEFAULTS = { min_score: 0, min_log_ratio: 0.5 };

/**
 * From the address, else as `atp features` selected, else its defaults.
 *
 * @param {Record<string, string>} parameters
 * @param {Selection | null} selection
 * @param {boolean} withRatio
 * @returns {Thresholds}
 */
export function thresholdsFrom(parameters, selection, withRatio) {
  const settings = selection?.settings ?? DEFAULTS;
  const [min_score, min_log_ratio] = NAMES.map((name) =>
    numberFrom(parameters[name]) ?? asNumber(settings[name])
  );
  return {
    min_score: parameters.min_score === "none" ? null : min_score,
    min_log_ratio: !withRatio || parameters.min_log_ratio === "none" ? null : min_log_ratio,
  };
}

/** @param {string | undefined} text @returns {number | null} */
export function numberFrom(text) {
  return text === undefined || text.trim() === "" ? null : asNumber(Number(text));
}

/** @param {unknown} value @returns {number | null} */
function asNumber(value) {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}

/** @param {TableBlock} features @param {number} row @param {Thresholds} thresholds */
export function passes(features, row, thresholds) {
  return NAMES.every((name) => {
    const least = thresholds[name];
    return least === null || features.columns[COLUMN_OF[name]][row] > least; // NaN is not
  });
}

/** @param {TableBlock} features @param {Thresholds} thresholds */
export function countPassing(features, thresholds) {
  let passing = 0;
  for (let row = 0; row < features.rows; row++) {
    passing += Number(passes(features, row, thresholds));
  }
  return passing;
}

/** The range of the numbers, with 0 in it. @param {ArrayLike<number>} numbers */
export function limits(numbers) {
  let [low, high] = [0, 0];
  for (let row = 0; row < numbers.length; row++) {
    if (numbers[row] < low) low = numbers[row];
    if (numbers[row] > high) high = numbers[row];
  }
  return [low, high];
}
