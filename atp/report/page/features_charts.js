// @ts-check
/**
 * The two charts of all features: mean against activation ratio, score against effect.
 *
 * @import { TableBlock } from "./overview.d.ts"
 */
import { format } from "./address.js";
import { decoded, hasBlock } from "./blocks.js";
import { el } from "./dom.js";
import { draw } from "./draw.js";
import { addressOf, labelOf } from "./feature_rows.js";
import { t } from "./language.js";
import { count, shortest, shown } from "./numbers.js";

const MOST_POINTS = 3000; // each is an element of the picture

/** The points of the ratio chart: all, or those of the largest mean. @param {number} result @param {TableBlock} features */
export function ratioPoints(result, features) {
  const { feature, mean_best, log_ratio, selected } = features.columns;
  const rows = withRatio(features);
  rows.sort((a, b) => Math.abs(mean_best[b]) - Math.abs(mean_best[a]));
  return rows.slice(0, MOST_POINTS).map((row) => ({
    feature: feature[row],
    label: labelOf(result, feature[row]),
    mean_best: mean_best[row],
    log_ratio: log_ratio[row],
    selected: selected[row] === 1,
    href: addressOf(result, feature[row]),
  }));
}

/** The rows that have a ratio. @param {TableBlock} features */
function withRatio({ columns: { log_ratio } }) {
  return Array.from(log_ratio, (_, row) => row).filter((row) => !Number.isNaN(log_ratio[row]));
}

/** What the ratio chart leaves out. @param {TableBlock} features */
export function leftOutOfRatio(features) {
  const rows = withRatio(features).length;
  const without = features.rows - rows;
  return el(
    "p",
    { class: "soft" },
    [
      rows > MOST_POINTS
        ? t("features.chart_cut", { n: count(MOST_POINTS), all: count(rows) })
        : "",
      without > 0 ? t("features.chart_without", { n: count(without) }) : "",
    ].join(t("frame.between_sentences")),
  );
}

/** Scores against effects, if the run measured any. @param {HTMLElement} root @param {number} result */
export async function agreement(root, result) {
  const id = `r${result}-agreement`;
  if (!hasBlock(id)) {
    return;
  }
  const { rows, columns, header } = await decoded(id);
  const chart = el("div");
  const note = t("features.agreement_note", {
    shown: count(rows),
    total: count(Number(header.total)),
    pearson: shown(/** @type {number} */ (header.pearson)),
  });
  root.append(
    el(
      "section",
      {},
      el("h2", {}, t("features.agreement_title")),
      el("p", { class: "soft" }, note),
      chart,
    ),
  );
  const points = Array.from({ length: rows }, (_, row) => ({
    pair: columns.pair[row],
    feature: columns.feature[row],
    score: shortest(columns.score[row]),
    effect: shortest(columns.effect[row]),
    relative_size: columns.relative_size ? shortest(columns.relative_size[row]) : null,
    href: format({
      view: "pair",
      result,
      id: String(columns.pair[row]),
      parameters: { feature: String(columns.feature[row]) },
    }),
  }));
  await draw(chart, "agreement", points);
}
