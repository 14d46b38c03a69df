// @ts-check
/**
 * Several results side by side.
 *
 * @import { Address, Result } from "./overview.d.ts"
 * @import { TableColumn } from "./table.js"
 */
import { format } from "./address.js";
import { decoded, overview } from "./blocks.js";
import { dataText, el } from "./dom.js";
import { draw } from "./draw.js";
import { asOption } from "./facts.js";
import { addressOf, featureLink } from "./feature_rows.js";
import { t } from "./language.js";
import { table } from "./table.js";
import { twoResults } from "./two_results.js";

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
    el("p", {}, t("compare.scales")),
    el("div", { class: "beside" }, parts),
  ));
  charts.forEach((chart, number) => draw(chart, "strongest", bars(number)));
  await twoResults(root, address);
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
      text("settings", ({ settings }) => Object.entries(settings).map(asOption).join(" ")),
      number("pairs", ({ counts }) => counts.scored),
      number("mean_metric", (_, row) => metrics[row]),
      number("variance_explained", (_, row) => explained[row]),
      number("selected", ({ selection }) => selection?.selected.length ?? null),
      strongest("promotes", "promoting"),
      strongest("suppresses", "suppressing"),
      text("metric", ({ metric }) => t(`pairs.${metric}`)),
      text("model", ({ model }) => model),
      text("dictionary", ({ sae }) => String(sae.spec ?? "")),
      text("hook", ({ sae }) => String(sae.hook_name ?? "")),
      text("file", ({ file }) => file),
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
