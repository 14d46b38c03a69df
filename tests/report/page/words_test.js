// @ts-check
/** The contrast token is found in a response from the two texts and the tokens alone. */
import { marked, visible } from "../../../atp/report/page/words.js";

/** @param {string} response @param {string} other @param {string} token @param {string} [otherToken] */
function mark(response, other, token, otherToken) {
  const pieces = marked(response, other, token, otherToken);
  equal(pieces.map(({ text }) => text).join(""), response);
  return pieces.map(({ text, mark }) => (mark ? `[${text}]` : text)).join("");
}

/** @param {unknown} found @param {unknown} expected */
function equal(found, expected) {
  if (!Object.is(found, expected)) {
    throw new Error(`${JSON.stringify(found)} is not ${JSON.stringify(expected)}`);
  }
}

Deno.test("a token with its leading space starts before the first letter that differs", () => {
  equal(
    mark("between the removal of", "between the number of", " removal"),
    "between the[ removal] of",
  );
});

Deno.test("a token that begins as the other one starts before the difference", () => {
  equal(mark("a correlation", "a correct claim", " correlation", " correct"), "a[ correlation]");
});

Deno.test("the other token decides between two places", () => {
  equal(mark("aaab", "aaac", "a"), "aa[a]b");
  equal(mark("aaab", "aaac", "a", "aac"), "a[a]ab");
});

Deno.test("a token that is shorter than the common start of both is found by the other one", () => {
  equal(mark("a correct claim", "a correlation", " cor", " correlation"), "a[ cor]rect claim");
});

Deno.test("the first words of both responses are marked", () => {
  equal(mark("My view", "Comment", "My"), "[My] view");
});

Deno.test("a response that ends with its token is marked to its end", () => {
  equal(mark("Yes, I agree", "Yes, I agreed", " agree"), "Yes, I[ agree]");
});

Deno.test("a token that the text does not have gets no mark", () => {
  equal(mark("The claim", "The argument", "<|im_end|>"), "The claim");
  equal(mark("caf\u00e9", "cafe", "\ufffd"), "caf\u00e9");
  equal(mark("The claim", "The argument", ""), "The claim");
});

Deno.test("the same word further on is not marked", () => {
  equal(mark("No. The end", "No! The end", " end"), "No. The end");
});

Deno.test("no character is cut in two", () => {
  equal(mark("Fine 👍🏽!", "Fine 👍🏾!", "🏽"), "Fine [👍🏽]!");
  equal(mark("e\u0301t", "e\u0300t", "\u0301"), "[e\u0301]t");
  equal(mark("👩‍👩‍👧 x", "👩‍👩‍👦 x", "👧"), "[👩‍👩‍👧] x");
});

Deno.test("right-to-left text is marked as it is stored", () => {
  equal(mark("אני מסכים", "אני חולק", " מסכים"), "אני[ מסכים]");
});

Deno.test("a long text is marked at once", () => {
  const long = "word ".repeat(20_000);
  equal(mark(`${long}yes`, `${long}no`, "yes"), `${long}[yes]`);
});

Deno.test("white space can be seen", () => {
  equal(visible("\n\n"), "↵\n↵\n");
  equal(visible("a\tb\r\n"), "a⇥\tb↵\r\n");
  equal(visible("  "), "␣␣");
  equal(visible(" removal"), " removal");
});
