// @ts-check
/** Finds the contrast token in a response, and makes white space visible. */

/** @typedef {{text: string, mark: boolean}} Piece */

const GRAPHEMES = new Intl.Segmenter("und", { granularity: "grapheme" });

/**
 * The pieces of a response, its contrast token marked; without a mark if the text has no such token.
 *
 * Both responses have the same tokens up to the contrast, so both contrast tokens start at one
 * place: where the texts first differ, or before, as tokens can begin alike. The last place is taken
 * at which both texts have their token, else the last at which this one has its own.
 *
 * @param {string} response
 * @param {string} other
 * @param {string} token
 * @param {string} [otherToken]
 * @returns {Piece[]}
 */
export function marked(response, other, token, otherToken = "") {
  const common = commonLength(response, other);
  const fits = (/** @type {number} */ place) => response.startsWith(token, place);
  const bothFit = (/** @type {number} */ place) =>
    fits(place) && other.startsWith(otherToken, place);
  const longest = Math.max(token.length, otherToken.length);
  const both = otherToken === "" ? null : lastPlace(common, longest, bothFit);
  const start = both ?? lastPlace(common, token.length, fits);
  if (token === "" || start === null) {
    return [{ text: response, mark: false }];
  }
  const [from, to] = wholeGraphemes(response, start, start + token.length);
  return [
    { text: response.slice(0, from), mark: false },
    { text: response.slice(from, to), mark: true },
    { text: response.slice(to), mark: false },
  ].filter(({ text }) => text !== "");
}

/** @param {string} a @param {string} b */
function commonLength(a, b) {
  let common = 0;
  while (common < a.length && a[common] === b[common]) {
    common++;
  }
  return common;
}

/**
 * The last place from `end` backwards, by at most `letters`, that passes.
 *
 * @param {number} end
 * @param {number} letters
 * @param {(place: number) => boolean} passes
 */
function lastPlace(end, letters, passes) {
  for (let place = end; place >= Math.max(0, end - letters); place--) {
    if (passes(place)) {
      return place;
    }
  }
  return null;
}

/**
 * A part of a text, made wider where it would cut a character in two.
 *
 * @param {string} text
 * @param {number} start
 * @param {number} end
 * @returns {[number, number]}
 */
function wholeGraphemes(text, start, end) {
  const segments = GRAPHEMES.segment(text);
  const last = segments.containing(end - 1);
  return [
    segments.containing(start)?.index ?? start,
    last ? last.index + last.segment.length : end,
  ];
}

/** A text whose line ends and tabs can be seen, and its spaces if it has nothing else. @param {string} text */
export function visible(text) {
  const seen = /^ +$/.test(text) ? text.replaceAll(" ", "␣") : text;
  return seen.replaceAll("\t", "⇥\t").replaceAll(/\r?\n|\r/g, "↵$&");
}
