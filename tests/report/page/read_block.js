// @ts-check
/** Reads a table block from the input and writes its columns as JSON, as the page reads them. */
import { shortest } from "../../../atp/report/page/numbers.js";
import { unpackedTable } from "../../../atp/report/page/unpacking.js";

const block = await unpackedTable(await new Response(Deno.stdin.readable).text());
const columns = Object.entries(block.columns).map(([name, column]) => {
  const texts = block.values[name];
  const read = column instanceof Float32Array ? shortest : Number;
  return [name, Array.from(column, (value) => texts ? texts[value] : read(value))];
});
console.log(JSON.stringify({ ...Object.fromEntries(columns), rows: block.rows }));
