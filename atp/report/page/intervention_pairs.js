// @ts-check
/**
 * The pairs of an intervention: before and after, with a link where a result of the page has the pair.
 *
 * @import { Experiment } from "./intervention.d.ts"
 * @import { TableBlock } from "./overview.d.ts"
 * @import { TableColumn } from "./table.js"
 */
import { format } from "./address.js";
import { decoded, overview } from "./blocks.js";
import { el } from "./dom.js";
import { draw } from "./draw.js";
import { t } from "./language.js";
import { signed } from "./numbers.js";
import { textIn } from "./pairs_filter.js";
import { table } from "./table.js";
import { quoted } from "./word_elements.js";

const METRICS = ["before", "after", "change", "after_random", "after_negative"];

/** @param {HTMLElement} root @param {Experiment} intervention @param {number} number */
export async function interventionPairs(root, { file, metadata }, number) {
  const pairs = await decoded(`i${number}-pairs`);
  const addresses = await addressesOf(pairs, metadata.atp.input.sha256);
  const chart = el("div");
  const { element } = table({
    name: `${file.replace(/\.json$/, "")}-pairs`,
    caption: t("intervention.pairs_caption"),
    rows: pairs.rows,
    columns: pairColumns(pairs, addresses),
  });
  root.append(el(
    "section",
    {},
    el("h2", {}, t("intervention.pairs")),
    el("p", {}, t("intervention.chart_pairs")),
    chart,
    element,
  ));
  const { before, after, flips } = pairs.columns;
  const rows = Array.from({ length: pairs.rows }, (_, row) => ({
    pair: textIn(pairs, "pair", row),
    before: before[row],
    after: after[row],
    flips: Boolean(flips[row]),
    ...(addresses[row] ? { href: addresses[row] } : {}),
  }));
  draw(chart, "before_after", rows.filter((row) => !Number.isNaN(row.before)));
}

/** @param {TableBlock} pairs @param {(string | undefined)[]} addresses @returns {TableColumn[]} */
function pairColumns(pairs, addresses) {
  const { before, flips } = pairs.columns;
  /** @param {string} name @returns {(row: number) => string | null} */
  const text = (name) => (row) => textIn(pairs, name, row);
  const measured = (/** @type {number} */ row) => !Number.isNaN(before[row]);
  const given = METRICS.filter((name) => pairs.columns[name].some((value) => !Number.isNaN(value)));
  const reason = (/** @type {number} */ row) => text("skipped")(row) ?? text("error")(row);
  /** @type {Record<string, Omit<TableColumn, "key" | "title">>} */
  const columns = {
    pair: {
      kind: "text",
      value: text("pair"),
      cell: (row) => {
        const place = text("pair")(row) ?? "";
        return addresses[row] ? el("a", { href: addresses[row] }, place) : place;
      },
    },
    tokens: {
      kind: "text",
      value: (row) =>
        measured(row) ? `${text("target_token")(row)} / ${text("base_token")(row)}` : null,
      cell: (row) =>
        measured(row)
          ? el(
            "span",
            {},
            quoted(text("target_token")(row)),
            " / ",
            quoted(text("base_token")(row)),
          )
          : "",
    },
    ...Object.fromEntries(given.map((name) => [name, {
      kind: /** @type {const} */ ("number"),
      value: (/** @type {number} */ row) => measured(row) ? pairs.columns[name][row] : null,
      cell: (/** @type {number} */ row) => measured(row) ? signed(pairs.columns[name][row]) : "",
    }])),
    flip: {
      kind: "text",
      value: (row) => measured(row) ? String(Boolean(flips[row])) : null,
      cell: (row) => measured(row) ? t(`intervention.${flips[row] ? "yes" : "no"}`) : "",
    },
  };
  if (Array.from({ length: pairs.rows }, (_, row) => row).some((row) => reason(row) !== null)) {
    columns.reason = { kind: "text", value: reason };
  }
  return Object.entries(columns).map(([key, column]) => ({
    key,
    title: t(key === "tokens" ? "pairs.tokens" : `intervention.${key}`),
    ...column,
  }));
}

/**
 * The address of each pair in the first result of the same input.
 *
 * @param {TableBlock} pairs
 * @param {string} input its sha256
 * @returns {Promise<(string | undefined)[]>} of each row
 */
async function addressesOf(pairs, input) {
  const result = overview.results.findIndex(({ facts }) =>
    /** @type {any} */ (facts.input)?.sha256 === input
  );
  if (result < 0) {
    return [];
  }
  const { rows, columns } = await decoded(`r${result}-pairs`);
  const places = new Map();
  for (let pair = 0; pair < rows; pair++) {
    places.set(`results[${columns.question[pair]}].variations[${columns.variation[pair]}]`, pair);
  }
  return Array.from({ length: pairs.rows }, (_, row) => {
    const pair = places.get(textIn(pairs, "pair", row));
    return pair === undefined ? undefined : format({ view: "pair", result, id: String(pair) });
  });
}
