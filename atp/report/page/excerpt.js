// @ts-check
/** A few words around the contrast of a response. */

const LETTERS_BEFORE = 120;
const LETTERS_AFTER = 160;

/**
 * The pieces with the text before and after the mark cut, between words where that is near.
 *
 * @param {{ text: string, mark: boolean }[]} pieces
 */
export function excerpt(pieces) {
  const marked = pieces.findIndex(({ mark }) => mark);
  return pieces.map(({ text, mark }, index) => {
    return { text: index < marked ? endOf(text) : startOf(text), mark };
  });
}

/** @param {string} text */
function endOf(text) {
  const letters = Array.from(text.slice(-2 * LETTERS_BEFORE));
  if (text.length <= LETTERS_BEFORE) {
    return text;
  }
  return `…${letters.slice(-LETTERS_BEFORE).join("").replace(/^\S{0,20}\s/, "")}`;
}

/** @param {string} text */
function startOf(text) {
  if (text.length <= LETTERS_AFTER) {
    return text;
  }
  const letters = Array.from(text.slice(0, 2 * LETTERS_AFTER));
  return `${letters.slice(0, LETTERS_AFTER).join("").replace(/\s\S{0,20}$/, "")}…`;
}
