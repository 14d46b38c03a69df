// @ts-check
/** The numbers of a feature as sentences. */
import { t } from "./language.js";
import { count, percent, shown, signed } from "./numbers.js";

const FEW_QUESTIONS = 10; // a feature of m questions reaches a p-value of 2^(1-m) at best

/**
 * @param {Record<string, number>} numbers of the feature over all pairs; NaN where there is none
 * @returns {string[]} paragraphs
 */
export function inWords(numbers) {
  const selected = t(numbers.selected ? "features.says_selected" : "features.says_not_selected");
  return [
    [direction(numbers), interval(numbers)],
    [frequency(numbers), ...certainty(numbers)],
    [...effects(numbers), ...activity(numbers), selected],
  ].map((sentences) => sentences.join(t("frame.between_sentences")));
}

/** @param {Record<string, number>} numbers */
function direction({ mean_best, pairs, questions }) {
  const verb = mean_best > 0 ? "promotes" : mean_best < 0 ? "suppresses" : "nothing";
  const values = { pairs: count(pairs), questions: count(questions), mean: signed(mean_best) };
  return t(`features.says_${verb}`, values);
}

/** @param {Record<string, number>} numbers */
function interval({ mean_best_low: low, mean_best_high: high }) {
  if (Number.isNaN(low)) {
    return t("features.says_no_interval");
  }
  const key = low > 0 || high < 0 ? "clear" : "open";
  return t(`features.says_interval_${key}`, { low: signed(low), high: signed(high) });
}

/** @param {Record<string, number>} numbers */
function frequency({ frequency, nonzero_questions }) {
  const values = { frequency: percent(frequency), questions: count(nonzero_questions) };
  return t("features.says_frequency", values);
}

/** @param {Record<string, number>} numbers */
function certainty({ q_value, nonzero_questions }) {
  return [
    ...(nonzero_questions < FEW_QUESTIONS ? [t("features.says_few")] : []),
    ...(Number.isNaN(q_value) ? [] : [t("features.says_q", { q: shown(q_value) })]),
  ];
}

/** @param {Record<string, number>} numbers */
function effects({ effect_pairs, mean_effect }) {
  return effect_pairs > 0
    ? [t("features.says_effect", { pairs: count(effect_pairs), mean: signed(mean_effect) })]
    : [];
}

/** @param {Record<string, number>} numbers */
function activity({ log_ratio }) {
  return log_ratio === undefined || Number.isNaN(log_ratio)
    ? []
    : [t("features.says_more_active", { times: shown(10 ** log_ratio) })];
}
