// @ts-check
/** An address names a view, and a view has one address. */
import { deepStrictEqual as equal } from "node:assert/strict";
import { format, parse } from "../../../atp/report/page/address.js";

/** @type {[string, import("../../../atp/report/page/overview.d.ts").Address][]} */
const ADDRESSES = [
  ["#/", { view: "answer", result: 0, id: null, parameters: {} }],
  ["#/r2", { view: "answer", result: 2, id: null, parameters: {} }],
  ["#/r0/features", { view: "features", result: 0, id: null, parameters: {} }],
  ["#/r1/feature/515", { view: "feature", result: 1, id: "515", parameters: {} }],
  ["#/r0/pair/17?feature=515", {
    view: "pair",
    result: 0,
    id: "17",
    parameters: { feature: "515" },
  }],
  ["#/intervention/0", { view: "intervention", result: 0, id: "0", parameters: {} }],
  ["#/about", { view: "about", result: 0, id: null, parameters: {} }],
];

Deno.test("an address is read as it is written", () => {
  for (const [hash, address] of ADDRESSES) {
    equal(parse(hash), address);
    equal(format(address), hash);
  }
});

Deno.test("no hash is the answer", () => {
  equal(parse(""), ADDRESSES[0][1]);
});

Deno.test("words with signs of an address come back", () => {
  const parameters = { q: "a & b = c? #1 / 100 % 日本", sort: "-mean_best" };
  const address = { view: "features", result: 0, id: null, parameters };
  equal(parse(format(address)), address);
  equal(parse(format({ view: "feature", id: "a/b?c" })).id, "a/b?c");
});

Deno.test("a parameter without a value is left out", () => {
  equal(
    format({ view: "features", parameters: { q: "", sort: "q_value" } }),
    "#/r0/features?sort=q_value",
  );
});

Deno.test("a link that was cut within an escape still opens", () => {
  equal(parse("#/r0/feature/%E3%81").id, "%E3%81");
});
