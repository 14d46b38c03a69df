// @ts-check
/**
 * A report of `atp intervene --compare`: which responses were flagged before, and which after.
 *
 * @import { Comparison, FlagRates, Limits } from "./intervention.d.ts"
 */
import { el } from "./dom.js";
import { t } from "./language.js";
import { count, percent, shown, signed } from "./numbers.js";
import { table } from "./table.js";

const CELLS = /** @type {const} */ ([
  "flagged_in_both",
  "flagged_before_only",
  "flagged_after_only",
  "flagged_in_neither",
]);

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
  const values = { difference: points(difference), interval: range(interval) };
  return [`intervention.compare_verdict_${difference < 0 ? "fewer" : "more"}`, values];
}

/** A difference of shares in percentage points. @param {number} share */
function points(share) {
  return signed(Number((100 * share).toPrecision(3)));
}

/** @param {Limits} limits */
function range(limits) {
  return limits ? limits.map(points).join(" … ") : "–";
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
  /** @type {[key: string, value: (rates: FlagRates) => number | undefined, cell: (rates: FlagRates) => string][]} */
  const numbers = [
    ["prompts", (of) => of.prompts, (of) => count(of.prompts)],
    ["rate_before", (of) => of.rate_before, (of) => percent(of.rate_before)],
    ["rate_after", (of) => of.rate_after, (of) => percent(of.rate_after)],
    ["difference", (of) => of.difference, (of) => points(of.difference)],
    ["clustered_low", (of) => of.interval_clustered?.[0], (of) => range(of.interval_clustered)],
    ["newcombe_low", (of) => of.interval?.[0], (of) => range(of.interval)],
    ["mcnemar", (of) => of.mcnemar_p, (of) => shown(of.mcnemar_p)],
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
        cell: (/** @type {number} */ row) => cell(rows[row][1]),
      })),
    ],
    exported: [
      { key: "clustered_high", value: (row) => rows[row][1].interval_clustered?.[1] ?? null },
      { key: "newcombe_high", value: (row) => rows[row][1].interval?.[1] ?? null },
      ...CELLS.map((key) => ({ key, value: (/** @type {number} */ row) => rows[row][1][key] })),
    ],
  }).element;
}
