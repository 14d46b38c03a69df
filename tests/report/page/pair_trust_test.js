// @ts-check
/** Each diagnostic of a pair becomes the level that docs/results.md and docs/method.md give it. */
import { judgements } from "../../../atp/report/page/pair_trust.js";

/** @import { Listed } from "../../../atp/report/page/pair_blocks.js" */

/** @param {Partial<Listed>} numbers @returns {Listed} */
function listed(numbers) {
  const none = { effect: NaN, relative_size: NaN, activation: 1, base_activation: NaN };
  return { feature: 7, score: 0.1, ...none, ...numbers };
}

/**
 * @param {string} name
 * @param {Record<string, number>} numbers
 * @param {Listed[]} [rows]
 * @param {string} [boundary]
 */
function level(name, numbers, rows = [], boundary = "joint") {
  const all = judgements((key) => numbers[key], rows, boundary);
  return all.find((each) => each.name === name)?.level;
}

/** @param {unknown} found @param {unknown} expected */
function equal(found, expected) {
  if (!Object.is(found, expected)) {
    throw new Error(`${found} is not ${expected}`);
  }
}

Deno.test("variance explained", () => {
  const levels = [0.98, 0.8, 0.6, 0.5, 0.3, -2].map((variance_explained) =>
    level("variance", { variance_explained })
  );
  equal(levels.join(), "good,good,doubtful,doubtful,bad,bad");
});

Deno.test("the share of the effect outside the dictionary counts every part, with any sign", () => {
  equal(level("error", { features: -3, bias: 0, sae_error: 0.9 }), "good");
  equal(level("error", { features: -3, bias: 1, sae_error: 2 }), "doubtful");
  equal(level("error", { features: 1, bias: 0, sae_error: -2 }), "bad");
  equal(level("error", { features: 1, bias: 0, sae_error: -2, skip: 3 }), "doubtful");
  equal(level("error", { features: 0, bias: 0, sae_error: 0 }), undefined);
});

Deno.test("only steps that no removal has measured are doubted", () => {
  const small = listed({ relative_size: 0.05 });
  const large = listed({ relative_size: 0.4 });
  const measured = listed({ relative_size: 0.4, effect: 0.2 });
  equal(level("size", {}, [small, measured]), "good");
  equal(level("size", {}, [small, listed({ relative_size: 0.2 })]), "doubtful");
  equal(level("size", {}, [small, large]), "bad");
  equal(level("size", {}, [measured]), "good");
  equal(level("size", {}, [listed({})]), undefined);
});

Deno.test("an effect with another sign than its score is named", () => {
  equal(level("exact", {}, [listed({ effect: 0.2 })]), "good");
  equal(level("exact", {}, [listed({ effect: 0.2 }), listed({ effect: -0.2 })]), "doubtful");
  equal(level("exact", {}, [listed({})]), undefined);
});

Deno.test("effects below the noise floor are named", () => {
  equal(level("noise", { "exact.noise_floor": 0.3 }, [listed({ effect: 0.2 })]), "doubtful");
  equal(level("noise", { "exact.noise_floor": 0.1 }, [listed({ effect: 0.2 })]), undefined);
});

Deno.test("integrated gradients add up within 5 %", () => {
  equal(level("path", { "path.completeness_gap": 0.05 }), "good");
  equal(level("path", { "path.completeness_gap": 0.06 }), "bad");
  equal(level("path", { "path.completeness_gap": NaN }), undefined);
});

Deno.test("a split boundary is named", () => {
  equal(level("boundary", {}, [], "split"), "doubtful");
  equal(level("boundary", {}, []), undefined);
});
