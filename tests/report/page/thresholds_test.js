// @ts-check
/** A feature passes where its numbers are above the thresholds, as in `atp features`. */
import { deepStrictEqual as equal } from "node:assert/strict";
import {
  countPassing,
  limits,
  passes,
  thresholdsFrom,
} from "../../../atp/report/page/thresholds.js";

const FEATURES = {
  rows: 4,
  columns: {
    mean_best: Float64Array.of(0.2, 0.2, 0, -0.1),
    log_ratio: Float64Array.of(0.6, NaN, 0.6, 0.9),
  },
  values: {},
  header: {},
};
const SELECTION = { steps: [], selected: [], settings: { min_score: 0.1, min_log_ratio: null } };

Deno.test("both numbers have to be above, and no ratio is not above one", () => {
  const thresholds = { min_score: 0, min_log_ratio: 0.5 };
  equal([0, 1, 2, 3].map((row) => passes(FEATURES, row, thresholds)), [true, false, false, false]);
  equal(countPassing(FEATURES, thresholds), 1);
});

Deno.test("a threshold of none asks for nothing", () => {
  equal(countPassing(FEATURES, { min_score: null, min_log_ratio: null }), 4);
  equal(countPassing(FEATURES, { min_score: 0, min_log_ratio: null }), 2);
});

Deno.test("the address decides, else the selection, else the defaults of atp features", () => {
  equal(thresholdsFrom({}, null, true), { min_score: 0, min_log_ratio: 0.5 });
  equal(thresholdsFrom({}, SELECTION, true), { min_score: 0.1, min_log_ratio: null });
  const given = { min_score: "none", min_log_ratio: "-0.25" };
  equal(thresholdsFrom(given, SELECTION, true), { min_score: null, min_log_ratio: -0.25 });
  equal(thresholdsFrom({ min_score: "x" }, SELECTION, true).min_score, 0.1);
});

Deno.test("a result without ratios has no threshold for them", () => {
  equal(thresholdsFrom({ min_log_ratio: "0.3" }, null, false).min_log_ratio, null);
});

Deno.test("a slider reaches all numbers and 0", () => {
  equal(limits(FEATURES.columns.mean_best), [-0.1, 0.2]);
  equal(limits(FEATURES.columns.log_ratio), [0, 0.9]);
});
