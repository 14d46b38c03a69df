// @ts-check
/**
 * The columns of the table of features.
 *
 * @import { TableBlock } from "./overview.d.ts"
 * @import { TableColumn } from "./table.js"
 */
import { overview } from "./blocks.js";
import { columnMeaning, columnTitle, featureLink, hasNumbers } from "./feature_rows.js";
import { labelOf, outwardLink, pageOnNeuronpedia } from "./feature_rows.js";
import { t } from "./language.js";
import { percent, shown } from "./numbers.js";

const SHOWN_COLUMNS = [
  ...["mean_best", "mean_best_low", "mean_best_high", "mean_score", "frequency"],
  ...["nonzero_questions", "q_value", "mean_effect", "log_ratio"],
];
const SHARES = new Set(["frequency"]);

/** @param {number} result @param {TableBlock} features @returns {TableColumn[]} */
export function columnsOf(result, features) {
  const { feature: ids, selected } = features.columns;
  /** @type {(name: string, kind: "number" | "text") => Pick<TableColumn, "key" | "title" | "kind" | "description">} */
  const head = (key, kind) => ({
    key,
    title: columnTitle(key),
    kind,
    description: columnMeaning(key),
  });
  const { link, labels } = overview.results[result];
  /** @type {TableColumn[]} */
  const columns = [
    {
      ...head("feature", "number"),
      value: (row) => ids[row],
      cell: (row) => featureLink(result, ids[row]),
    },
  ];
  if (Object.keys(labels).length) {
    columns.push({ ...head("label", "text"), value: (row) => labelOf(result, ids[row]) });
  }
  for (const name of SHOWN_COLUMNS.filter((name) => hasNumbers(features, name))) {
    const numbers = features.columns[name];
    columns.push({
      ...head(name, "number"),
      value: (row) => numbers[row],
      cell: (row) => SHARES.has(name) ? percent(numbers[row]) : shown(numbers[row]),
    });
  }
  columns.push({
    ...head("selected", "text"),
    value: (row) => selected[row] ? "selected" : "",
    cell: (row) => selected[row] ? t("features.selected") : "",
  });
  if (link) {
    columns.push({
      ...head("link", "text"),
      value: (row) => pageOnNeuronpedia(result, ids[row]),
      cell: (row) =>
        outwardLink(pageOnNeuronpedia(result, ids[row]) ?? "", t("features.neuronpedia")),
    });
  }
  return columns;
}

/** The other numbers of the features file. @param {TableBlock} features */
export function exportedColumns(features) {
  return Object.keys(features.columns)
    .filter((name) => !["feature", "selected", ...SHOWN_COLUMNS].includes(name))
    .map((key) => ({ key, value: (/** @type {number} */ row) => features.columns[key][row] }));
}
