// @ts-check
/** Numbers as text: exact for a file, short for the eye. */

const SMALLEST_NORMAL_FLOAT32 = 2 ** -126;
const SHORT = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 });
const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

/**
 * The number of the result file: the fewest digits that give this float32 back.
 *
 * @param {number} x a float32
 * @returns {number}
 */
export function shortest(x) {
  if (!Number.isFinite(x)) {
    return x;
  }
  // A normal float32 keeps every number of 6 digits; 9 digits give every float32 back.
  for (let digits = Math.abs(x) < SMALLEST_NORMAL_FLOAT32 ? 1 : 6; digits < 9; digits++) {
    if (Math.fround(Number(x.toPrecision(digits))) === x) {
      return rounded(x, digits);
    }
  }
  return rounded(x, 9);
}

/**
 * As the result file rounds: halfway between two numbers, to the one whose last digit is even.
 * JavaScript takes the larger one.
 *
 * @param {number} x
 * @param {number} digits
 */
function rounded(x, digits) {
  const [longer, exponent] = x.toExponential(digits).split("e");
  if (longer.endsWith("5") && "02468".includes(longer.replace(".", "").at(-2) ?? "")) {
    const rest = x.toExponential(100).slice(longer.length).split("e")[0];
    if (Number(rest) === 0) {
      return Number(`${longer.slice(0, -1)}e${exponent}`);
    }
  }
  return Number(x.toPrecision(digits));
}

/**
 * Four significant digits, and a dash for no value.
 *
 * @param {number | null | undefined} x
 */
export function shown(x) {
  if (x === null || x === undefined || Number.isNaN(x)) {
    return "–";
  }
  const size = Math.abs(x);
  if (size === 0) {
    return "0";
  }
  if (size < 1e-4 || size >= 1e9) {
    return withMinus(Number(x.toPrecision(4)).toExponential());
  }
  return withMinus(size >= 1000 ? WHOLE.format(x) : SHORT.format(x));
}

/** @param {number | null | undefined} x */
export function signed(x) {
  return x !== null && x !== undefined && x > 0 ? `+${shown(x)}` : shown(x);
}

/** @param {number} n */
export function count(n) {
  return WHOLE.format(n);
}

/** @param {number} share of 1 */
export function percent(share) {
  return Number.isNaN(share) ? "–" : `${SHORT.format(Number((100 * share).toPrecision(3)))} %`;
}

/** @param {string} text */
function withMinus(text) {
  return text.replaceAll("-", "−");
}

/**
 * A CSV file as RFC 4180 has it; numbers with all their digits, no value as an empty field.
 *
 * @param {(string | number | null | undefined)[][]} rows
 */
export function csv(rows) {
  return rows.map((row) => row.map(csvField).join(",") + "\r\n").join("");
}

/** @param {string | number | null | undefined} value */
function csvField(value) {
  if (value === null || value === undefined || Number.isNaN(value)) {
    return "";
  }
  const text = String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
