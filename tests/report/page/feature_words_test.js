// @ts-check
/** The sentences about a feature say no more than its numbers. */
import { deepStrictEqual as equal, ok } from "node:assert/strict";
import { inWords } from "../../../atp/report/page/feature_words.js";

const NUMBERS = {
  pairs: 1200,
  questions: 300,
  mean_best: 0.25,
  mean_best_low: 0.125,
  mean_best_high: 0.375,
  frequency: 0.5,
  nonzero_questions: 150,
  q_value: 0.001,
  effect_pairs: 0,
  mean_effect: NaN,
  log_ratio: NaN,
  selected: 1,
};

/** @param {Partial<typeof NUMBERS>} changed */
function said(changed) {
  const sentences = inWords({ ...NUMBERS, ...changed }).flat();
  return sentences.map(([key]) => key.replace("features.says_", ""));
}

Deno.test("a feature that promotes, with an interval without 0", () => {
  equal(said({}), ["promotes", "interval_clear", "frequency", "q", "selected"]);
  equal(inWords(NUMBERS)[0][0][1], { pairs: "1,200", questions: "300", mean: "+0.25" });
});

Deno.test("the sign of the mean is the direction", () => {
  equal(said({ mean_best: -0.25, mean_best_low: -0.5, mean_best_high: -0.125 }).slice(0, 2), [
    "suppresses",
    "interval_clear",
  ]);
  equal(said({ mean_best: 0 })[0], "nothing");
});

Deno.test("an interval with 0 in it leaves the direction open, even at its end", () => {
  equal(said({ mean_best_low: -0.125 })[1], "interval_open");
  equal(said({ mean_best_low: 0 })[1], "interval_open");
  equal(said({ mean_best_low: NaN, mean_best_high: NaN })[1], "no_interval");
});

Deno.test("few questions are a warning", () => {
  ok(said({ nonzero_questions: 9 }).includes("few"));
  ok(!said({ nonzero_questions: 10 }).includes("few"));
});

Deno.test("effects, ratios and q-values are named where the run has them", () => {
  const full = said({
    effect_pairs: 5,
    mean_effect: 0.1,
    log_ratio: 0.5,
    q_value: NaN,
    selected: 0,
  });
  equal(full.slice(3), ["effect", "more_active", "not_selected"]);
});
