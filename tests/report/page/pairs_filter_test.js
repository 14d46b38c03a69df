// @ts-check
/** A filter keeps the pairs that it names, in file order. */
import { keeps, valuesOf } from "../../../atp/report/page/pairs_filter.js";

/** @import { TableBlock } from "../../../atp/report/page/overview.d.ts" */
/** @import { PairFilter } from "../../../atp/report/page/pairs_filter.js" */

/** @type {TableBlock} */
const PAIRS = {
  rows: 4,
  columns: {
    template_type: Uint8Array.of(0, 1, 1, 2),
    dataset: Uint8Array.of(0, 0, 1, 0),
    outcome: Uint8Array.of(0, 0, 1, 2),
    variance_explained: Float32Array.of(0.9, 0.4, NaN, NaN),
  },
  values: {
    template_type: ["I wrote", "I like", null],
    dataset: ["arguments", ""],
    outcome: ["scored", "skipped", "error"],
  },
  header: {},
};

/** @param {PairFilter} filter @param {number[]} [listing] */
function kept(filter, listing = []) {
  const passes = keeps(PAIRS, filter, new Set(listing));
  return [0, 1, 2, 3].filter(passes).join();
}

/** @param {string} found @param {string} expected */
function equal(found, expected) {
  if (found !== expected) {
    throw new Error(`${found} is not ${expected}`);
  }
}

Deno.test("without a filter every pair is kept", () => equal(kept({}), "0,1,2,3"));

Deno.test("template, dataset and outcome", () => {
  equal(kept({ template: "I like" }), "1,2");
  equal(kept({ template: "I like", outcome: "skipped" }), "2");
  equal(kept({ dataset: "arguments" }), "0,1,3");
  equal(kept({ template: "never seen" }), "");
});

Deno.test("pairs without a value can be asked for", () => {
  equal(valuesOf(PAIRS, "template_type").join(), "(none),I like,I wrote");
  equal(kept({ template: "(none)" }), "3");
  equal(kept({ dataset: "(none)" }), "2");
});

Deno.test("badly explained pairs are those below the threshold, not those without a number", () => {
  equal(kept({ poor: "0.5" }), "1");
  equal(kept({ poor: "0.95" }), "0,1");
  equal(kept({ poor: "not a number" }), "");
});

Deno.test("a feature keeps the pairs that list it", () => {
  equal(kept({ feature: "515" }, [1, 3]), "1,3");
  equal(kept({ feature: "515" }), "");
});
