// @ts-check
/**
 * The features that a pair lists, as bars and as a table.
 *
 * @import { Address } from "./overview.d.ts"
 * @import { Listed } from "./pair_blocks.js"
 * @import { TableColumn } from "./table.js"
 */
import { replace } from "./address.js";
import { overview } from "./blocks.js";
import { el } from "./dom.js";
import { draw } from "./draw.js";
import { addressOf, featureLink, labelOf } from "./feature_rows.js";
import { t } from "./language.js";
import { shortest } from "./numbers.js";
import { table } from "./table.js";
import { signedCell } from "./word_elements.js";

const BARS = 15;
const SIGNED = ["score", "effect"];
const NUMBERS = /** @type {const} */ ([
  "score",
  "effect",
  "relative_size",
  "activation",
  "base_activation",
]);

/**
 * @param {HTMLElement} root
 * @param {Address} address
 * @param {number} pair
 * @param {Listed[]} listed
 */
export function pairFeatures(root, address, pair, listed) {
  const { result } = address;
  const chart = el("div");
  const measured = listed.slice(0, BARS).some(({ effect }) => !Number.isNaN(effect));
  const parameters = { ...address.parameters };
  const { element } = table({
    name: `${overview.results[result].name}-pair-${pair}`,
    caption: t("pairs.listed_caption"),
    rows: listed.length,
    columns: listedColumns(result, listed),
    parameters,
    onChange: ({ sort }) =>
      replace({ ...address, parameters: Object.assign(parameters, { sort }) }),
  });
  root.append(el(
    "section",
    {},
    el("h2", {}, t("pairs.top_features")),
    el(
      "p",
      {},
      t("pairs.chart", { n: Math.min(BARS, listed.length) }),
      measured ? ` ${t("pairs.chart_effects")}` : null,
    ),
    chart,
    element,
  ));
  draw(chart, "pair", listed.slice(0, BARS).map((row) => bar(result, row)));
}

/** @param {number} result @param {Listed} row */
function bar(result, { feature, score, effect, relative_size }) {
  return {
    feature: String(feature),
    label: labelOf(result, feature),
    score: number(score),
    effect: number(effect),
    relative_size: number(relative_size),
    href: addressOf(result, feature),
  };
}

/** @param {number} result @param {Listed[]} listed @returns {TableColumn[]} */
function listedColumns(result, listed) {
  /** @type {TableColumn} */
  const feature = {
    key: "feature",
    title: t("pairs.feature"),
    kind: "number",
    value: (row) => listed[row].feature,
    cell: (row) => featureLink(result, listed[row].feature),
  };
  /** @type {TableColumn} */
  const label = {
    key: "label",
    title: t("pairs.label"),
    kind: "text",
    value: (row) => labelOf(result, listed[row].feature),
  };
  const labelled = listed.some(({ feature }) => labelOf(result, feature) !== null);
  const given = NUMBERS.filter((key) => listed.some((row) => !Number.isNaN(row[key])));
  const numbers = given.map((key) => /** @type {TableColumn} */ ({
    key,
    title: t(`pairs.${key}`),
    kind: "number",
    value: (row) => number(listed[row][key]),
    ...(SIGNED.includes(key) ? { cell: (row) => signedCell(number(listed[row][key])) } : {}),
  }));
  return [feature, ...numbers, ...(labelled ? [label] : [])];
}

/** @param {number} value */
function number(value) {
  return Number.isNaN(value) ? null : shortest(value);
}
