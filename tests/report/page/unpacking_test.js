// @ts-check
/** Blocks come back; tests/report/test_page_text.py tries those that Python packs. */
import { deepStrictEqual as equal } from "node:assert/strict";
import { tableOf, unpackedJson } from "../../../atp/report/page/unpacking.js";

/** @param {object} header @param {Uint8Array} columns */
function tableBytes(header, columns) {
  let text = JSON.stringify(header);
  text += " ".repeat((8 - (4 + text.length) % 8) % 8);
  const bytes = new Uint8Array(4 + text.length + columns.length);
  new DataView(bytes.buffer).setUint32(0, text.length, true);
  bytes.set(new TextEncoder().encode(text), 4);
  bytes.set(columns, 4 + text.length);
  return bytes.buffer;
}

Deno.test("a table has its columns, the values of its texts, and the rest of its header", () => {
  const columns = new Uint8Array(24);
  columns.set(new Uint8Array(Float32Array.of(0.5, NaN).buffer), 0);
  columns.set([1, 0], 8);
  columns.set(new Uint8Array(Uint32Array.of(0, 3, 7).buffer), 12);
  const header = {
    rows: 2,
    total: 9,
    columns: [
      { name: "score", type: "f4", offset: 0, length: 2 },
      { name: "template", type: "u1", offset: 8, length: 2, values: [null, "I like"] },
      { name: "start", type: "u4", offset: 12, length: 3 },
    ],
  };
  const table = tableOf(tableBytes(header, columns));
  equal(table.rows, 2);
  equal(table.columns.score, Float32Array.of(0.5, NaN));
  equal(table.columns.template, Uint8Array.of(1, 0));
  equal(table.columns.start, Uint32Array.of(0, 3, 7));
  equal(table.values, { template: [null, "I like"] });
  equal(table.header.total, 9);
});

Deno.test("JSON comes back from base64 of gzip", async () => {
  const value = { texts: ["</script>", "日本語", "\u2028"], pairs: [[0, 1, null]] };
  const zipped = new Blob([JSON.stringify(value)]).stream().pipeThrough(
    new CompressionStream("gzip"),
  );
  const bytes = new Uint8Array(await new Response(zipped).arrayBuffer());
  equal(await unpackedJson(btoa(String.fromCharCode(...bytes))), value);
});
