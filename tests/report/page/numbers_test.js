// @ts-check
/** Numbers are exact in a file and short for the eye. */
import { deepStrictEqual as equal } from "node:assert/strict";
import { csv, percent, shortest, shown, signed } from "../../../atp/report/page/numbers.js";

Deno.test("a float32 becomes the number with the fewest digits", () => {
  for (
    const number of [
      0.1,
      -0.10708707,
      1e-7,
      16777216,
      4057898.2,
      3.4028235e38,
      1.1754944e-38,
      1e-45,
      0,
    ]
  ) {
    equal(shortest(Math.fround(number)), number);
  }
  equal(shortest(NaN), NaN);
  equal(shortest(-Infinity), -Infinity);
});

Deno.test("a shown number has four digits and a real minus sign", () => {
  equal([0.10708707, -0.5, 0, 1, 1234.5, 12345678].map(shown), [
    "0.1071",
    "−0.5",
    "0",
    "1",
    "1,235",
    "12,345,678",
  ]);
  equal([2.82e-5, -3.2756e-6, 0.00012345].map(shown), ["2.82e−5", "−3.276e−6", "0.0001235"]);
  equal([NaN, null, undefined].map(shown), ["–", "–", "–"]);
});

Deno.test("a signed number says that it is positive", () => {
  equal([0.25, -0.25, 0, NaN].map(signed), ["+0.25", "−0.25", "0", "–"]);
});

Deno.test("a share is a number of per cent", () => {
  equal([1, 0.4286, 0.00012, NaN].map(percent), ["100 %", "42.9 %", "0.012 %", "–"]);
});

Deno.test("a field of a CSV is quoted where it has to be, and keeps all digits", () => {
  const rows = [["a", "b"], [0.07034874, null], ['say "so"', "x,y"], ["two\nlines", NaN]];
  equal(csv(rows), 'a,b\r\n0.07034874,\r\n"say ""so""","x,y"\r\n"two\nlines",\r\n');
});
