// @ts-check
/**
 * Several results side by side, and the features of two results of one dictionary.
 *
 * @import { Address, Result } from "./overview.d.ts"
 * @import { TableColumn } from "./table.js"
 */
import { format, replace } from "./address.js";
import { decoded, overview } from "./blocks.js";
import { dataText, el } from "./dom.js";
import { draw } from "./draw.js";
import { addressOf, featureLink } from "./feature_rows.js";
import { t } from "./language.js";
import { signed } from "./numbers.js";
import { table } from "./table.js";
import { sentence } from "./word_elements.js";

const LINKED = 3; // strongest features of a result in the table
const BARS_OF_EACH = 5; // of each direction

/** @param {HTMLElement} root @param {Address} address */
export async function compareView(root, address) {
  const { results } = overview;
  root.append(el("h1", {}, t("compare.title")));
  if (results.length < 2) {
    root.append(el("p", {}, t("compare.nothing")));
    return;
  }
  root.append(el("p", {}, t("compare.intro")));
  root.append(await resultsTable());
  const charts = results.map(() => el("div"));
  const parts = results.map(({ name }, number) =>
    el("div", {}, el("h3", {}, dataText(name)), charts[number])
  );
  root.append(el(
    "section",
    {},
    el("h2", {}, t("compare.strongest")),
    el("div", { class: "beside" }, parts),
  ));
  charts.forEach((chart, number) => draw(chart, "strongest", bars(number)));
  for (const { a, b } of overview.compare) {
    await twoResults(root, address, a, b);
  }
}

/** The means over the scored pairs of a result. @param {number} result @param {string} name */
async function meanOf(result, name) {
  const values = (await decoded(`r${result}-pairs`)).columns[name] ?? [];
  const known = Array.from(values).filter((value) => !Number.isNaN(value));
  return known.length ? known.reduce((sum, value) => sum + value) / known.length : null;
}

async function resultsTable() {
  const { results } = overview;
  const metrics = await Promise.all(results.map((_, number) => meanOf(number, "metric")));
  const explained = await Promise.all(
    results.map((_, number) => meanOf(number, "variance_explained")),
  );
  /** @param {string} key @param {(result: Result, row: number) => string | null} value @returns {TableColumn} */
  const text = (key, value) => ({
    key,
    title: t(`compare.${key}`),
    kind: "text",
    value: (row) => value(results[row], row),
  });
  /** @param {string} key @param {(result: Result, row: number) => number | null} value @returns {TableColumn} */
  const number = (key, value) => ({
    ...text(key, () => null),
    kind: "number",
    value: (row) => value(results[row], row),
  });
  /** @param {"promotes" | "suppresses"} direction @param {string} key @returns {TableColumn} */
  const strongest = (direction, key) => ({
    ...text(key, (result) => strongestIn(result, direction).join(" ")),
    cell: (row) => {
      const links = strongestIn(results[row], direction).flatMap((id) => [
        featureLink(row, id),
        " ",
      ]);
      return el("span", {}, links.length ? links : t("compare.none"));
    },
  });
  return table({
    name: "compare",
    caption: t("compare.caption"),
    rows: results.length,
    columns: [
      {
        ...text("result", ({ name }) => name),
        cell: (row) => el("a", { href: format({ result: row }) }, dataText(results[row].name)),
      },
      text("model", ({ model }) => model),
      text("dictionary", ({ sae }) => String(sae.spec ?? "")),
      text("hook", ({ sae }) => String(sae.hook_name ?? "")),
      text("metric", ({ metric }) => t(`pairs.${metric}`)),
      number("pairs", ({ counts }) => counts.scored),
      number("mean_metric", (_, row) => metrics[row]),
      number("variance_explained", (_, row) => explained[row]),
      number("selected", ({ selection }) => selection?.selected.length ?? null),
      strongest("promotes", "promoting"),
      strongest("suppresses", "suppressing"),
    ],
  }).element;
}

/** @param {Result} result @param {"promotes" | "suppresses"} direction */
function strongestIn(result, direction) {
  return result.strongest.filter((each) => each.direction === direction).slice(0, LINKED)
    .map(({ feature }) => feature);
}

/** @param {number} result */
function bars(result) {
  const { strongest } = overview.results[result];
  return ["promotes", "suppresses"].flatMap((direction) =>
    strongest.filter((each) => each.direction === direction).slice(0, BARS_OF_EACH)
  ).map((each) => ({ ...each, href: addressOf(result, each.feature) }));
}

/**
 * The features of two results of one dictionary.
 *
 * @param {HTMLElement} root
 * @param {Address} address
 * @param {number} a
 * @param {number} b
 */
async function twoResults(root, address, a, b) {
  const { rows, columns } = await decoded(`compare-${a}-${b}`);
  const { feature, mean_a, mean_b } = columns;
  const [of_a, of_b] = [a, b].map((result) => overview.results[result]);
  const labels = { ...of_b.labels, ...of_a.labels };
  const chart = el("div");
  /** @param {string} key @param {string} title @param {(row: number) => number} value @returns {TableColumn} */
  const number = (key, title, value) => ({
    key,
    title,
    kind: "number",
    value: (row) => Number.isNaN(value(row)) ? null : value(row),
    cell: (row) => signed(value(row)),
  });
  const parameters = { ...address.parameters };
  const named = { a: of_a.name, b: of_b.name };
  const { element } = table({
    name: `compare-${a}-${b}`,
    caption: t("compare.two_caption", named),
    rows,
    columns: [
      {
        key: "feature",
        title: t("compare.feature"),
        kind: "number",
        value: (row) => feature[row],
        cell: (row) => featureLink(a, feature[row]),
      },
      number("mean_a", t("compare.mean_in", { name: of_a.name }), (row) => mean_a[row]),
      number("mean_b", t("compare.mean_in", { name: of_b.name }), (row) => mean_b[row]),
      number("difference", t("compare.difference"), (row) => mean_b[row] - mean_a[row]),
      {
        key: "label",
        title: t("compare.label"),
        kind: "text",
        value: (row) => labels[feature[row]] ?? null,
      },
    ],
    search: (row) => `${feature[row]} ${labels[feature[row]] ?? ""}`,
    searchLabel: t("compare.search"),
    parameters,
    onChange: (state) => replace({ ...address, parameters: Object.assign(parameters, state) }),
  });
  root.append(el(
    "section",
    {},
    el("h2", {}, sentence("compare.two", { a: dataText(of_a.name), b: dataText(of_b.name) })),
    el("p", {}, t("compare.two_intro")),
    chart,
    element,
  ));
  const points = Array.from({ length: rows }, (_, row) => ({
    feature: String(feature[row]),
    label: labels[feature[row]] ?? null,
    mean_a: mean_a[row],
    mean_b: mean_b[row],
    href: addressOf(a, feature[row]),
  }));
  draw(chart, "compare", points);
}
