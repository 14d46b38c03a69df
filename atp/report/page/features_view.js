// @ts-check
/**
 * All features of a result: two charts, thresholds, and the table.
 *
 * @import { Address, Selection } from "./overview.d.ts"
 */
import { replace } from "./address.js";
import { overview } from "./blocks.js";
import { el } from "./dom.js";
import { draw } from "./draw.js";
import { plainTable } from "./facts.js";
import { featuresOf, hasNumbers, labelOf } from "./feature_rows.js";
import { agreement, leftOutOfRatio, ratioPoints } from "./features_charts.js";
import { columnsOf, exportedColumns } from "./features_table.js";
import { t } from "./language.js";
import { count } from "./numbers.js";
import { table } from "./table.js";
import { passes, thresholdsFrom } from "./thresholds.js";
import { thresholdsPanel } from "./thresholds_panel.js";

/** @param {HTMLElement} root @param {Address} address */
export async function featuresView(root, address) {
  const { result } = address;
  const { name, metric } = overview.results[result];
  const intro = t("features.intro", { unit: t(`frame.unit_${metric}`) });
  root.append(el("h1", {}, t("features.title")), el("p", { class: "soft" }, intro));
  const features = await featuresOf(result);
  if (features.rows === 0) {
    root.append(el("p", {}, t("features.none")));
    return;
  }
  let parameters = { ...address.parameters };
  const change = (/** @type {Record<string, string>} */ changed) => {
    parameters = { ...parameters, ...changed };
    replace({ ...address, parameters });
  };
  const withRatio = hasNumbers(features, "log_ratio");
  const { selection } = overview.results[result];
  const thresholds = thresholdsFrom(parameters, selection, withRatio);
  const original = thresholdsFrom({}, selection, withRatio);
  const passing = (/** @type {number} */ row) => passes(features, row, thresholds);
  const selected = (/** @type {number} */ row) => features.columns.selected[row] === 1;
  /** @type {Record<string, ((row: number) => boolean) | null>} */
  const filters = { all: null, passing, selected };

  const which = el(
    "select",
    { autocomplete: "off" },
    Object.keys(filters).map((key) => el("option", { value: key }, t(`features.show_${key}`))),
  );
  which.value = (parameters.show ?? "") in filters ? parameters.show : "all";
  const list = table({
    name: `${name}-features`,
    caption: t("features.caption", { name }),
    columns: columnsOf(result, features),
    rows: features.rows,
    search: (row) =>
      `${features.columns.feature[row]} ${labelOf(result, features.columns.feature[row]) ?? ""}`,
    searchLabel: t("features.search"),
    filter: (row) => filters[which.value]?.(row) ?? true,
    parameters,
    onChange: change,
    exported: exportedColumns(features),
  });
  which.addEventListener("change", () => {
    change({ show: which.value === "all" ? "" : which.value });
    list.refresh();
  });

  const ratio = el("div");
  const points = withRatio ? ratioPoints(result, features) : [];
  const panel = thresholdsPanel({ features, thresholds, original, changed });
  /** @type {Awaited<ReturnType<typeof draw>>} */
  let view = null;

  function changed() {
    change({
      min_score: thresholds.min_score === null ? "none" : String(thresholds.min_score),
      ...(withRatio && {
        min_log_ratio: thresholds.min_log_ratio === null
          ? "none"
          : String(thresholds.min_log_ratio),
      }),
    });
    view?.signal("min_score", thresholds.min_score);
    view?.signal("min_log_ratio", thresholds.min_log_ratio).runAsync();
    if (which.value === "passing") {
      list.refresh();
    }
  }

  root.append(
    el(
      "section",
      {},
      el("h2", {}, withRatio ? t("features.ratio_title") : t("features.thresholds")),
      panel,
      withRatio ? ratio : el("p", { class: "soft" }, t("features.no_ratio")),
      withRatio ? leftOutOfRatio(features) : null,
      selection && stepsTable(selection, features.rows),
    ),
    el(
      "section",
      {},
      el("h2", {}, t("features.table_title")),
      el("label", { class: "inline" }, t("features.show"), which),
      list.element,
    ),
  );
  if (withRatio) {
    view = await draw(ratio, "ratio", points, { ...thresholds });
  }
  await agreement(root, result);
}

/** How `atp features` selects. @param {Selection} selection @param {number} all features */
function stepsTable({ steps, selected }, all) {
  return el(
    "details",
    {},
    el("summary", {}, t("features.chosen", { n: count(selected.length), all: count(all) })),
    plainTable(
      t("features.steps"),
      [
        { title: t("features.step"), kind: "text" },
        { title: t("features.took"), kind: "number" },
        { title: t("features.left"), kind: "number" },
      ],
      steps.map(({ threshold, took, left }) => [threshold, count(took), count(left)]),
    ),
  );
}
