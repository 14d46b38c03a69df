// @ts-check
/**
 * The features of two results of one dictionary: the mean of each in both.
 *
 * @import { Address, TableBlock } from "./overview.d.ts"
 * @import { TableColumn } from "./table.js"
 */
import { replace } from "./address.js";
import { decoded, overview } from "./blocks.js";
import { dataText, el } from "./dom.js";
import { draw } from "./draw.js";
import { addressOf, featureLink, labelOf } from "./feature_rows.js";
import { t } from "./language.js";
import { signed } from "./numbers.js";
import { table } from "./table.js";
import { sentence } from "./word_elements.js";

const LARGEST_FIRST = "-mean_a";

/** @typedef {{a: number, b: number}} Two */

/**
 * One comparison; the reader chooses which, if there are several.
 *
 * @param {HTMLElement} root
 * @param {Address} address
 */
export async function twoResults(root, address) {
  const pairs = overview.compare;
  if (pairs.length === 0) {
    return;
  }
  const parameters = { ...address.parameters };
  const names = overview.results.map(({ name }) => name);
  const select = el(
    "select",
    { onchange: choose },
    pairs.map(({ a, b }) => {
      const value = `${a}-${b}`;
      const text = t("compare.two", { a: names[a], b: names[b] });
      return el("option", { value, selected: value === parameters.two }, text);
    }),
  );
  const place = el("div");
  const chooser = el("label", {}, t("compare.choose"), " ", select);
  root.append(
    el("section", {}, el("h2", {}, t("compare.two_title")), pairs.length > 1 && chooser, place),
  );
  await show();

  function choose() {
    parameters.two = select.value;
    replace({ ...address, parameters });
    show();
  }

  async function show() {
    const two = pairs[select.selectedIndex];
    const block = await decoded(`compare-${two.a}-${two.b}`);
    const chart = el("div");
    const { element } = table({
      name: `compare-${two.a}-${two.b}`,
      caption: t("compare.two_caption", { a: names[two.a], b: names[two.b] }),
      rows: block.rows,
      columns: columnsOfTwo(block, two),
      search: (row) =>
        `${block.columns.feature[row]} ${labelIn(two, block.columns.feature[row]) ?? ""}`,
      searchLabel: t("compare.search"),
      parameters: { sort: LARGEST_FIRST, ...parameters },
      onChange: (state) => replace({ ...address, parameters: Object.assign(parameters, state) }),
    });
    const bothNamed = { a: dataText(names[two.a]), b: dataText(names[two.b]) };
    place.replaceChildren(el("p", {}, sentence("compare.two_intro", bothNamed)), chart, element);
    draw(chart, "compare", pointsOf(block, two));
  }
}

/** @param {Two} two @param {number} feature */
function labelIn({ a, b }, feature) {
  return labelOf(a, feature) ?? labelOf(b, feature);
}

/** @param {TableBlock} block @param {Two} two @returns {TableColumn[]} */
function columnsOfTwo({ columns }, two) {
  const { feature, mean_a, mean_b } = columns;
  /** @param {string} key @param {string} title @param {(row: number) => number} value @returns {TableColumn} */
  const number = (key, title, value) => ({
    key,
    title,
    kind: "number",
    value,
    cell: (row) => signed(value(row)),
  });
  /** @type {TableColumn} */
  const label = {
    key: "label",
    title: t("compare.label"),
    kind: "text",
    value: (row) => labelIn(two, feature[row]),
  };
  return [
    {
      key: "feature",
      title: t("compare.feature"),
      kind: "number",
      value: (row) => feature[row],
      cell: (row) => featureLink(two.a, feature[row]),
    },
    number("mean_a", t("compare.mean_a"), (row) => mean_a[row]),
    number("mean_b", t("compare.mean_b"), (row) => mean_b[row]),
    number("difference", t("compare.difference"), (row) => mean_b[row] - mean_a[row]),
    ...(feature.some((id) => labelIn(two, id) !== null) ? [label] : []),
  ];
}

/** @param {TableBlock} block @param {Two} two */
function pointsOf({ rows, columns }, two) {
  const { feature, mean_a, mean_b } = columns;
  return Array.from({ length: rows }, (_, row) => ({
    feature: String(feature[row]),
    label: labelIn(two, feature[row]),
    mean_a: mean_a[row],
    mean_b: mean_b[row],
    href: addressOf(two.a, feature[row]),
  }));
}
