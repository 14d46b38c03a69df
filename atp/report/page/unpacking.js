// @ts-check
/**
 * Reads the bytes that `atp/report/packing.py` writes: base64 of gzip, in it JSON or a table of
 * typed columns.
 *
 * @import { Column, TableBlock } from "./overview.d.ts"
 */

/** @type {Record<string, new (buffer: ArrayBuffer, offset: number, length: number) => Column>} */
const ARRAY_TYPES = {
  f8: Float64Array,
  f4: Float32Array,
  u4: Uint32Array,
  u2: Uint16Array,
  u1: Uint8Array,
};

/** @param {string} text @returns {Uint8Array<ArrayBuffer>} */
function fromBase64(text) {
  const quick = /** @type {any} */ (Uint8Array).fromBase64; // browsers before 2025 have only atob
  return quick
    ? quick.call(Uint8Array, text)
    : Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

/** @param {string} text @returns {Response} the unpacked content */
function inflated(text) {
  const stream = new Blob([fromBase64(text)]).stream();
  return new Response(stream.pipeThrough(new DecompressionStream("gzip")));
}

/** @param {string} text @returns {Promise<any>} */
export function unpackedJson(text) {
  return inflated(text).json();
}

/** @param {string} text @returns {Promise<TableBlock>} */
export async function unpackedTable(text) {
  return tableOf(await inflated(text).arrayBuffer());
}

/**
 * The columns are views of the buffer: nothing is copied.
 *
 * @param {ArrayBuffer} buffer
 * @returns {TableBlock}
 */
export function tableOf(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  /** @type {TableBlock["columns"]} */
  const columns = {};
  /** @type {TableBlock["values"]} */
  const values = {};
  for (const column of header.columns) {
    const ArrayType = ARRAY_TYPES[column.type];
    columns[column.name] = new ArrayType(buffer, 4 + length + column.offset, column.length);
    if (column.values) {
      values[column.name] = column.values;
    }
  }
  return { rows: header.rows, columns, values, header };
}
