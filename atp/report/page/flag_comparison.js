// @ts-check
/**
 * A report of `atp intervene --compare`: which responses were flagged before, and which after.
 *
 * @import { Comparison, FlagRates } from "./intervention.d.ts"
 */
import { el } from "./dom.js";
import { t } from "./language.js";
import { count, percent, shown } from "./numbers.js";
import { table } from "./table.js";

const CELLS = ["in_both", "before_only", "after_only", "in_neither"];

/** @param {HTMLElement} root @param {Comparison} intervention */
export function flagComparison(root, { file, overall, by_template_type }) {
  root.append(
    el("p", { class: "lead" }, t(...finding(overall))),
    el("p", {}, t("intervention.compare_intro")),
    el("section", {}, el("h2", {}, t("intervention.compare_title")), twoByTwo(overall)),
    el(
      "section",
      {},
      el("h2", {}, t("intervention.rates_caption")),
      rates(file, { [t("intervention.all_but_base")]: overall, ...by_template_type }),
      el("p", {}, t("intervention.compare_explain")),
    ),
  );
}

/**
 * The sentence that the interval over questions allows.
 *
 * @param {FlagRates} rates
 * @returns {[key: string, values?: Record<string, string>]}
 */
function finding({ difference, interval_clustered: interval }) {
  if (!interval) {
    return ["intervention.compare_verdict_unknown"];
  }
  if (interval[0] <= 0 && interval[1] >= 0) {
    return ["intervention.compare_verdict_none"];
  }
  const values = { difference: points(difference), interval: interval.map(points).join(" … ") };
  return [`intervention.compare_verdict_${difference < 0 ? "fewer" : "more"}`, values];
}

/** A difference of shares, with its sign. @param {number} share */
function points(share) {
  const text = percent(share).replace("-", "−");
  return share > 0 ? `+${text}` : text;
}

/** @param {FlagRates} overall */
function twoByTwo(overall) {
  /** @param {string} key */
  const head = (key) => el("th", { scope: "col" }, t(`intervention.${key}`));
  /** @param {string} key @param {number[]} cells */
  const line = (key, cells) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, t(`intervention.${key}`)),
      cells.map((cell) => el("td", { class: "number" }, count(cell))),
    );
  const { flagged_in_both, flagged_before_only, flagged_after_only, flagged_in_neither } = overall;
  return el(
    "table",
    { class: "plain" },
    el("caption", {}, t("intervention.two_by_two")),
    el("thead", {}, el("tr", {}, el("td"), head("flagged_after"), head("not_flagged_after"))),
    el(
      "tbody",
      {},
      line("flagged_before", [flagged_in_both, flagged_before_only]),
      line("not_flagged_before", [flagged_after_only, flagged_in_neither]),
    ),
  );
}

/** @param {string} file @param {Record<string, FlagRates>} groups */
function rates(file, groups) {
  const rows = Object.entries(groups);
  /** @type {[key: string, value: (rates: FlagRates) => number | undefined, cell: (value: number) => string][]} */
  const numbers = [
    ["prompts", (of) => of.prompts, count],
    ["rate_before", (of) => of.rate_before, percent],
    ["rate_after", (of) => of.rate_after, percent],
    ["difference", (of) => of.difference, points],
    ["newcombe_low", (of) => of.interval?.[0], points],
    ["newcombe_high", (of) => of.interval?.[1], points],
    ["clustered_low", (of) => of.interval_clustered?.[0], points],
    ["clustered_high", (of) => of.interval_clustered?.[1], points],
    ["mcnemar", (of) => of.mcnemar_p, shown],
  ];
  return table({
    name: `${file.replace(/\.json$/, "")}-rates`,
    caption: t("intervention.rates_caption"),
    rows: rows.length,
    columns: [
      {
        key: "template",
        title: t("intervention.template"),
        kind: "text",
        value: (row) => rows[row][0],
      },
      ...numbers.map(([key, value, cell]) => ({
        key,
        title: t(`intervention.${key}`),
        kind: /** @type {const} */ ("number"),
        value: (/** @type {number} */ row) => value(rows[row][1]) ?? null,
        cell: (/** @type {number} */ row) => cell(value(rows[row][1]) ?? NaN),
      })),
    ],
    exported: CELLS.map((cell) => ({
      key: `flagged_${cell}`,
      value: (row) => /** @type {any} */ (rows[row][1])[`flagged_${cell}`],
    })),
  }).element;
}
