// @ts-check
/**
 * The table of pairs: its columns, which rows pass, and their order, which the pages of single pairs
 * follow too.
 *
 * @import { TableColumn } from "./table.js"
 * @import { PairFilter } from "./pairs_filter.js"
 */
import { format } from "./address.js";
import { decoded, overview } from "./blocks.js";
import { dataText, el } from "./dom.js";
import { featureLink, labelOf } from "./feature_rows.js";
import { t } from "./language.js";
import { shortest } from "./numbers.js";
import { bestOf, pairsListing, searchedTexts } from "./pair_blocks.js";
import { keeps, textIn } from "./pairs_filter.js";
import { arranged, sortFrom } from "./table_rows.js";
import { quoted, signedCell } from "./word_elements.js";

/** @typedef {(pair: number) => number | null} NumberOf */

const NONE = 0xffffffff; // a whole number that a pair does not have
const SHOWN = [
  "question_id",
  "template_type",
  "dataset",
  "outcome",
  "reason",
  "metric",
  "strongest",
  "variance_explained",
];

/**
 * What table() needs, for the filter and the search in the parameters of an address.
 *
 * @param {number} result
 * @param {Record<string, string>} parameters
 */
export async function pairsTable(result, parameters) {
  const pairs = await decoded(`r${result}-pairs`);
  const filter = /** @type {PairFilter} */ (parameters);
  const feature = parameters.feature ? Number(parameters.feature) : null;
  const listing = feature === null ? new Map() : await pairsListing(result, feature);
  const textOf = parameters.texts ? await searchedTexts(result) : () => "";

  /** @param {string} name @returns {(pair: number) => string | null} */
  const text = (name) => (pair) => textIn(pairs, name, pair);
  /** @param {string} name @returns {NumberOf} */
  const number = (name) => (pair) => {
    const value = pairs.columns[name]?.[pair];
    return value === undefined || value === NONE || Number.isNaN(value) ? null : shortest(value);
  };
  /** @param {NumberOf} value @returns {NumberOf} */
  const ifScored = (value) => (pair) => text("outcome")(pair) === "scored" ? value(pair) : null;
  const tokens = (/** @type {number} */ pair) =>
    text("outcome")(pair) === "scored"
      ? `${text("target_token")(pair)} / ${text("base_token")(pair)}`
      : null;

  const questionId = text("question_id");
  // Numbers among texts would have no order.
  const idsAreNumbers = pairs.values.question_id.every((id) => /^\d{1,15}$/.test(id ?? ""));

  /** @type {Record<string, Omit<TableColumn, "key" | "title">>} */
  const columns = {
    pair: {
      kind: "number",
      value: (pair) => pair,
      cell: (pair) =>
        el("a", { href: pairLink(result, pair, parameters), "data-pair": pair }, String(pair)),
    },
    question_id: {
      kind: "text",
      value: idsAreNumbers ? (pair) => Number(questionId(pair)) : questionId,
    },
    template_type: { kind: "text", value: text("template_type") },
    tokens: {
      kind: "text",
      value: tokens,
      cell: (pair) =>
        tokens(pair) === null ? "" : el(
          "span",
          {},
          quoted(text("target_token")(pair)),
          " / ",
          quoted(text("base_token")(pair)),
        ),
    },
    [overview.results[result].metric]: {
      kind: "number",
      value: ifScored(number("metric")),
      cell: (pair) => signedCell(ifScored(number("metric"))(pair)),
    },
    variance_explained: { kind: "number", value: number("variance_explained") },
    ...(feature === null ? {} : {
      best_of: {
        kind: "number",
        value: (pair) => {
          const listed = listing.get(pair);
          return listed ? shortest(bestOf(listed)) : null;
        },
      },
    }),
    outcome: {
      kind: "text",
      value: text("outcome"),
      cell: (pair) => t(`pairs.${text("outcome")(pair)}`),
    },
    strongest: {
      kind: "text",
      value: ifScored(number("strongest")),
      cell: (pair) => {
        const strongest = ifScored(number("strongest"))(pair);
        return strongest === null ? "" : linkWithLabel(result, strongest);
      },
    },
    dataset: { kind: "text", value: text("dataset") },
    reason: { kind: "text", value: text("reason") },
  };
  return {
    columns: Object.entries(columns).map(([key, column]) => ({
      key,
      title: t(`pairs.${key}`, { feature: feature ?? "" }),
      ...column,
    })),
    exported: Object.keys(pairs.columns).filter((name) => !SHOWN.includes(name))
      .map((key) => ({ key, value: pairs.values[key] ? text(key) : number(key) })),
    filter: keeps(pairs, filter, listing),
    search: (/** @type {number} */ pair) =>
      [questionId(pair), text("target_token")(pair), text("base_token")(pair), textOf(pair)].join(
        "\n",
      ),
  };
}

/**
 * The pairs that the table shows, in its order.
 *
 * @param {number} result
 * @param {Record<string, string>} parameters
 */
export async function orderedPairs(result, parameters) {
  const { rows } = await decoded(`r${result}-pairs`);
  const { columns, filter, search } = await pairsTable(result, parameters);
  const sort = sortFrom(parameters.sort);
  const value = columns.find(({ key }) => key === sort?.key)?.value;
  return arranged(rows, { filter, search, words: parameters.q, value, falling: sort?.falling });
}

/**
 * The address of a pair; `from` remembers the table's filter and order.
 *
 * @param {number} result
 * @param {number} pair
 * @param {Record<string, string>} parameters of the table
 */
export function pairLink(result, pair, parameters) {
  const from = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value));
  const feature = parameters.feature ?? "";
  return format({
    view: "pair",
    result,
    id: String(pair),
    parameters: { feature, from: `${from}` },
  });
}

/** @param {number} result @param {number} feature */
function linkWithLabel(result, feature) {
  const label = labelOf(result, feature);
  return el("span", {}, featureLink(result, feature), label && [" ", dataText(label)]);
}
