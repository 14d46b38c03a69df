// @ts-check
/** Which rows of a table are shown, and in which order. Knows nothing of the page. */

/**
 * @typedef {object} SortedBy
 * @property {string} key of the column
 * @property {boolean} falling
 */

/** `-score` as in an address. @param {string | undefined} text @returns {SortedBy | null} */
export function sortFrom(text) {
  if (!text) {
    return null;
  }
  return text.startsWith("-")
    ? { key: text.slice(1), falling: true }
    : { key: text, falling: false };
}

/** @param {SortedBy | null} sort */
export function sortAsText(sort) {
  return sort ? `${sort.falling ? "-" : ""}${sort.key}` : "";
}

/**
 * The order after a click on a header: largest number (first word) first, then the other way, then as
 * in the file.
 *
 * @param {SortedBy | null} sort
 * @param {{ key: string, kind: "number" | "text" }} column
 * @returns {SortedBy | null}
 */
export function nextSort(sort, { key, kind }) {
  const first = { key, falling: kind === "number" };
  if (sort?.key !== key) {
    return first;
  }
  return sort.falling === first.falling ? { key, falling: !first.falling } : null;
}

/**
 * The numbers of the rows that pass, in order. Rows without a value come last, either way.
 *
 * @param {number} rows
 * @param {object} by
 * @param {(row: number) => boolean} [by.filter]
 * @param {((row: number) => string) | undefined} [by.search] the text of a row that words are sought in
 * @param {string} [by.words]
 * @param {((row: number) => number | string | null) | undefined} [by.value] what to sort by
 * @param {boolean} [by.falling]
 * @returns {Uint32Array<ArrayBuffer>}
 */
export function arranged(rows, { filter, search, words = "", value, falling = false }) {
  const sought = words.toLowerCase().split(/\s+/).filter((word) => word !== "");
  /** @type {number[]} */
  const passing = [];
  for (let row = 0; row < rows; row++) {
    if (filter && !filter(row)) {
      continue;
    }
    if (search && sought.length) {
      const text = search(row).toLowerCase();
      if (!sought.every((word) => text.includes(word))) {
        continue;
      }
    }
    passing.push(row);
  }
  return Uint32Array.from(value ? sorted(passing, value, falling) : passing);
}

/**
 * @param {number[]} rows
 * @param {(row: number) => number | string | null} value
 * @param {boolean} falling
 */
function sorted(rows, value, falling) {
  const keyed = rows.map((row) => ({ row, key: value(row) }));
  const sign = falling ? -1 : 1;
  keyed.sort((a, b) => {
    if (isMissing(a.key) || isMissing(b.key)) {
      return Number(isMissing(a.key)) - Number(isMissing(b.key)) || a.row - b.row;
    }
    return sign * compared(a.key, b.key) || a.row - b.row;
  });
  return keyed.map(({ row }) => row);
}

/** @param {unknown} key */
function isMissing(key) {
  return key === null || key === undefined || Number.isNaN(key);
}

/** @param {any} a @param {any} b @returns {number} */
function compared(a, b) {
  return a < b ? -1 : a > b ? 1 : 0;
}

/**
 * The part of a long table that is in the page: the rows in sight, and some above and below.
 *
 * @param {{ scrolled: number, height: number, rowHeight: number, rows: number, spare: number }} sight
 * @returns {[first: number, end: number]}
 */
export function windowOf({ scrolled, height, rowHeight, rows, spare }) {
  const first = Math.max(0, Math.floor(scrolled / rowHeight) - spare);
  const end = Math.min(rows, Math.ceil((scrolled + height) / rowHeight) + spare);
  return [Math.min(first, Math.max(0, end - 1)), end];
}
