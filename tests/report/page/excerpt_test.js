// @ts-check
/** An excerpt keeps the marked token and a few words on both sides. */
import { deepStrictEqual as equal, ok } from "node:assert/strict";
import { excerpt } from "../../../atp/report/page/excerpt.js";

Deno.test("a short response is whole", () => {
  const pieces = [{ text: "I ", mark: false }, { text: "love", mark: true }];
  equal(excerpt(pieces), pieces);
});

Deno.test("a long response is cut between words, away from the mark", () => {
  const pieces = [
    { text: "word ".repeat(100), mark: false },
    { text: "token", mark: true },
    { text: " after".repeat(100), mark: false },
  ];
  const [before, token, after] = excerpt(pieces);
  equal(token, pieces[1]);
  ok(before.text.length < 130 && /^…word .* word $/.test(before.text));
  ok(after.text.length < 170 && /^ after .* after…$/.test(after.text));
});

Deno.test("a word of any length is cut, never within a letter", () => {
  const [before, , after] = excerpt([
    { text: "😀".repeat(5000), mark: false },
    { text: "x", mark: true },
    { text: "😀".repeat(5000), mark: false },
  ]);
  ok(/^…(😀){1,120}$/u.test(before.text));
  ok(/^(😀){1,160}…$/u.test(after.text));
});

Deno.test("a token of any length is cut, too", () => {
  const [token] = excerpt([{ text: "w".repeat(100_000), mark: true }]);
  equal(token, { text: `${"w".repeat(160)}…`, mark: true });
});

Deno.test("without a mark the beginning is shown", () => {
  const [only] = excerpt([{ text: "word ".repeat(100), mark: false }]);
  ok(only.text.startsWith("word word") && only.text.endsWith("…"));
});
