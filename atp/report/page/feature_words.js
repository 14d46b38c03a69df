// @ts-check
/** The numbers of a feature as sentences: keys and values of texts. Knows nothing of the page. */
import { count, percent, shown, signed } from "./numbers.js";

const FEW_QUESTIONS = 10; // a feature of m questions reaches a p-value of 2^(1-m) at best

/** @typedef {[key: string, values: Record<string, string>]} Sentence */

/**
 * @param {Record<string, number>} numbers of the feature over all pairs; NaN where there is none
 * @returns {Sentence[][]} paragraphs
 */
export function inWords(numbers) {
  return [
    [direction(numbers), interval(numbers)],
    [frequency(numbers), ...certainty(numbers)],
    [
      ...effects(numbers),
      ...activity(numbers),
      sentence(numbers.selected ? "selected" : "not_selected"),
    ],
  ];
}

/** @param {string} name @param {Record<string, string>} [values] @returns {Sentence} */
function sentence(name, values = {}) {
  return [`features.says_${name}`, values];
}

/** @param {Record<string, number>} numbers */
function direction({ mean_best, pairs, questions }) {
  const verb = mean_best > 0 ? "promotes" : mean_best < 0 ? "suppresses" : "nothing";
  const values = { pairs: count(pairs), questions: count(questions), mean: signed(mean_best) };
  return sentence(verb, values);
}

/** @param {Record<string, number>} numbers */
function interval({ mean_best_low: low, mean_best_high: high }) {
  if (Number.isNaN(low)) {
    return sentence("no_interval");
  }
  const kind = low > 0 || high < 0 ? "interval_clear" : "interval_open";
  return sentence(kind, { low: signed(low), high: signed(high) });
}

/** @param {Record<string, number>} numbers */
function frequency({ frequency, nonzero_questions }) {
  const values = { frequency: percent(frequency), questions: count(nonzero_questions) };
  return sentence("frequency", values);
}

/** @param {Record<string, number>} numbers */
function certainty({ q_value, nonzero_questions }) {
  return [
    ...(nonzero_questions < FEW_QUESTIONS ? [sentence("few")] : []),
    ...(Number.isNaN(q_value) ? [] : [sentence("q", { q: shown(q_value) })]),
  ];
}

/** @param {Record<string, number>} numbers */
function effects({ effect_pairs, mean_effect }) {
  const values = { pairs: count(effect_pairs), mean: signed(mean_effect) };
  return effect_pairs > 0 ? [sentence("effect", values)] : [];
}

/** @param {Record<string, number>} numbers */
function activity({ log_ratio }) {
  const times = shown(10 ** log_ratio);
  return Number.isNaN(log_ratio) ? [] : [sentence("more_active", { times })];
}
