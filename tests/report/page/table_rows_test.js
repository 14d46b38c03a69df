// @ts-check
/** The rows of a table: which are shown, in which order, and which of them are in the page. */
import { deepStrictEqual as equal } from "node:assert/strict";
import {
  arranged,
  nextSort,
  sortAsText,
  sortFrom,
  windowOf,
} from "../../../atp/report/page/table_rows.js";

const SCORES = [0.5, NaN, -1, 0.5, 2];
const LABELS = ["Praise", "doubt", "praise of streets", "", "Doubt"];

/** @param {Parameters<typeof arranged>[1]} by */
function rows(by) {
  return [...arranged(SCORES.length, by)];
}

Deno.test("without an order, rows are as in the file", () => {
  equal(rows({}), [0, 1, 2, 3, 4]);
});

Deno.test("rows without a value are last either way, and equal rows keep their order", () => {
  const value = (/** @type {number} */ row) => SCORES[row];
  equal(rows({ value }), [2, 0, 3, 4, 1]);
  equal(rows({ value, falling: true }), [4, 0, 3, 2, 1]);
});

Deno.test("a row is found by all the words, in any case", () => {
  const search = (/** @type {number} */ row) => LABELS[row];
  equal(rows({ search, words: "praise" }), [0, 2]);
  equal(rows({ search, words: " STREETS  praise" }), [2]);
  equal(rows({ search, words: "  " }), [0, 1, 2, 3, 4]);
});

Deno.test("a filter and a search both have to be met", () => {
  const search = (/** @type {number} */ row) => LABELS[row];
  equal(rows({ search, words: "doubt", filter: (row) => SCORES[row] > 0 }), [4]);
});

Deno.test("a header sorts, then turns the order round, then gives the file's order back", () => {
  const number = { key: "score", kind: /** @type {const} */ ("number") };
  const word = { key: "label", kind: /** @type {const} */ ("text") };
  const orders = [];
  for (let sort = nextSort(null, number); sort; sort = nextSort(sort, number)) {
    orders.push(sortAsText(sort));
  }
  equal(orders, ["-score", "score"]);
  equal(sortAsText(nextSort(sortFrom("-score"), word)), "label");
});

Deno.test("an order is read from an address as it is written", () => {
  equal(["-score", "label", ""].map((text) => sortAsText(sortFrom(text))), ["-score", "label", ""]);
});

Deno.test("only the rows in sight and some around them are in the page", () => {
  const sight = { height: 100, rowHeight: 20, rows: 1000, spare: 2 };
  equal(windowOf({ ...sight, scrolled: 0 }), [0, 7]);
  equal(windowOf({ ...sight, scrolled: 2010 }), [98, 108]);
  equal(windowOf({ ...sight, scrolled: 1000 * 20 - 100 }), [993, 1000]);
  equal(windowOf({ ...sight, scrolled: 99_999, rows: 3 }), [2, 3]);
  equal(windowOf({ ...sight, scrolled: 0, rows: 0 }), [0, 0]);
});
