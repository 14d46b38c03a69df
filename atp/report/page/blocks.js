// @ts-check
/**
 * The page's data. `overview` is read at once, the blocks when a view first needs them.
 *
 * @import { Overview, TableBlock } from "./overview.d.ts"
 */
import { unpackedJson, unpackedTable } from "./unpacking.js";

/** @type {Overview} */
export const overview = JSON.parse(document.getElementById("overview")?.textContent ?? "null");

/** Resolves when the parser has read the whole file: every block, and the charts' library. */
export const parsed = new Promise((resolve) => {
  if (document.readyState === "loading") {
    document.addEventListener("DOMContentLoaded", resolve, { once: true });
  } else {
    resolve(null);
  }
});

/** @type {Map<string, Promise<any>>} */
const unpackedBlocks = new Map();

/**
 * @template T
 * @param {string} id
 * @param {(text: string) => Promise<T>} unpack
 * @returns {Promise<T>}
 */
function once(id, unpack) {
  const known = unpackedBlocks.get(id) ?? parsed.then(() => unpack(textOfBlock(id)));
  unpackedBlocks.set(id, known);
  return known;
}

/** @param {string} id @returns {string} */
function textOfBlock(id) {
  const element = document.getElementById(id);
  if (!element) {
    throw new Error(`The page has no block ${id}.`);
  }
  return element.textContent ?? "";
}

/** @param {string} id of a table block @returns {Promise<TableBlock>} */
export function decoded(id) {
  return once(id, unpackedTable);
}

/** @param {string} id of a block of JSON: texts, positions @returns {Promise<any>} */
export function decodedJson(id) {
  return once(id, unpackedJson);
}

/** @param {string} id */
export function hasBlock(id) {
  return overview.results.some((result) => result.blocks.includes(id));
}
