// @ts-check
/**
 * One feature: its numbers in words, its distribution, its groups, and the pairs where it counts most.
 *
 * @import { Address, TableBlock } from "./overview.d.ts"
 * @import { Listed } from "./pair_blocks.js"
 * @import { TableColumn } from "./table.js"
 */
import { format } from "./address.js";
import { decoded, overview } from "./blocks.js";
import { el } from "./dom.js";
import { draw } from "./draw.js";
import { excerpt } from "./excerpt.js";
import { factList } from "./facts.js";
import { columnTitle, featuresOf, labelOf } from "./feature_rows.js";
import { outwardLink, pageOnNeuronpedia } from "./feature_rows.js";
import { inWords } from "./feature_words.js";
import { t } from "./language.js";
import { count, shortest, shown, signed } from "./numbers.js";
import { bestOf, pairsListing, textsOf } from "./pair_blocks.js";
import { plainCell, table } from "./table.js";
import { words } from "./word_elements.js";
import { marked } from "./words.js";

const TOP_PAIRS = 10;

/** @param {HTMLElement} root @param {Address} address */
export async function featureView(root, { result, id }) {
  const heading = el("h1", {}, t("features.one", { feature: id ?? "" }));
  const label = labelOf(result, id ?? "");
  root.append(
    el(
      "p",
      { class: "onward" },
      el("a", { href: format({ view: "features", result }) }, `← ${t("features.back")}`),
    ),
    heading,
    label === null ? "" : el("p", { class: "lead" }, plainCell(label)),
  );
  const features = await featuresOf(result);
  const row = features.columns.feature.findIndex((feature) => String(feature) === id);
  if (id === null || row < 0) {
    heading.textContent = t("features.unknown", { feature: id ?? "" });
    root.append(el("p", {}, t("features.unknown_more")));
    return;
  }
  const numbers = Object.fromEntries(
    Object.entries(features.columns).map(([name, column]) => [name, column[row]]),
  );
  root.append(
    el("div", { class: "sentences" }, paragraphs(numbers)),
    links(result, id),
  );
  const listing = await pairsListing(result, Number(id));
  const distribution = el("div");
  const groups = el("div");
  const others = numbers.pairs - listing.size;
  const note = t(others === 0 ? "features.distribution_all" : "features.distribution_note", {
    listing: count(listing.size),
    scored: count(numbers.pairs),
    others: count(others),
  });
  const groupRows = [
    { ...overview.results[result].groups[0], ...limitsOf(features, row) },
    ...groupsOf(await decoded(`r${result}-groups`), result, Number(id)),
  ];
  const top = topPairs(listing);
  const cards = await Promise.all(top.map(([pair, listed]) => pairCard(result, pair, listed)));
  root.append(
    el(
      "div",
      { class: "beside" },
      el(
        "section",
        {},
        el("h2", {}, t("features.distribution_title")),
        el("p", { class: "soft" }, note),
        distribution,
      ),
      el("section", {}, el("h2", {}, t("features.groups_title")), groups),
    ),
    el("section", {}, el("h2", {}, t("features.top_title")), el("ol", { class: "cards" }, cards)),
    el(
      "details",
      {},
      el("summary", {}, t("features.groups_title")),
      groupTable(overview.results[result].name, id, groupRows),
    ),
    el("details", {}, el("summary", {}, t("features.numbers_title")), allNumbers(numbers)),
  );
  const best = Array.from(listing.values(), (listed) => ({ best: shortest(bestOf(listed)) }));
  await draw(distribution, "distribution", best);
  await draw(groups, "groups", groupRows);
}

/** @param {Record<string, number>} numbers */
function paragraphs(numbers) {
  return inWords(numbers).map((sentences) => {
    const texts = sentences.map(([key, values]) => t(key, values));
    return el("p", {}, texts.join(t("frame.between_sentences")));
  });
}

/** @param {number} result @param {string} id */
function links(result, id) {
  const page = pageOnNeuronpedia(result, id);
  const pairs = format({ view: "pairs", result, parameters: { feature: id } });
  return el(
    "p",
    { class: "onward" },
    el("a", { href: pairs }, t("features.to_pairs")),
    page && outwardLink(page, t("features.to_neuronpedia")),
  );
}

/** @param {Map<number, Listed>} listing */
function topPairs(listing) {
  const size = (/** @type {Listed} */ listed) => Math.abs(bestOf(listed));
  return [...listing].sort(([, a], [, b]) => size(b) - size(a)).slice(0, TOP_PAIRS);
}

/** @param {number} result @param {number} pair @param {Listed} listed */
async function pairCard(result, pair, listed) {
  const { columns, values } = await decoded(`r${result}-pairs`);
  const text = (/** @type {string} */ name) => values[name]?.[columns[name][pair]] ?? null;
  const { response, base } = await textsOf(result, pair);
  const [target, other] = [text("target_token") ?? "", text("base_token") ?? ""];
  const best = bestOf(listed);
  const kind = Number.isNaN(listed.effect) ? "features.top_score" : "features.top_effect";
  const address = format({
    view: "pair",
    result,
    id: String(pair),
    parameters: { feature: String(listed.feature) },
  });
  const facts = [
    t("features.top_question", { question: text("question_id") ?? columns.question[pair] }),
    text("template_type"),
    text("dataset"),
  ].filter((fact) => fact);
  return el(
    "li",
    {},
    el(
      "p",
      { class: "card-head" },
      el("a", { href: address }, t("features.top_one", { pair })),
      el(
        "strong",
        { class: best < 0 ? "suppresses" : "promotes" },
        t(kind, { value: signed(shortest(best)) }),
      ),
      el("span", { class: "soft" }, plainCell(facts.join(" · "))),
    ),
    el(
      "div",
      { class: "beside" },
      el(
        "div",
        {},
        el("p", { class: "soft" }, t("features.top_flagged")),
        around(response, base, target, other),
      ),
      el(
        "div",
        {},
        el("p", { class: "soft" }, t("features.top_base")),
        around(base, response, other, target),
      ),
    ),
  );
}

/** @param {string | null} response @param {string | null} against @param {string} token @param {string} other */
function around(response, against, token, other) {
  return words(excerpt(marked(response ?? "", against ?? "", token, other)));
}

/** The mean and its interval in a row. @param {TableBlock} block @param {number} row */
function limitsOf({ columns }, row) {
  const number = (/** @type {string} */ name) => {
    const value = columns[name][row];
    return Number.isNaN(value) ? null : value;
  };
  return {
    mean_best: number("mean_best"),
    mean_best_low: number("mean_best_low"),
    mean_best_high: number("mean_best_high"),
  };
}

/** The groups but that of all pairs. @param {TableBlock} block @param {number} result @param {number} feature */
function groupsOf(block, result, feature) {
  const { rows, columns } = block;
  const groups = overview.results[result].groups;
  const found = [];
  for (let row = 0; row < rows; row++) {
    if (columns.feature[row] === feature) {
      found.push({ ...groups[columns.group[row]], ...limitsOf(block, row) });
    }
  }
  return found;
}

/** @param {string} name of the result @param {string} id @param {ReturnType<typeof groupsOf>} groups */
function groupTable(name, id, groups) {
  /** @param {"mean_best" | "mean_best_low" | "mean_best_high"} key @returns {TableColumn} */
  const limit = (key) => ({
    key,
    title: columnTitle(key),
    kind: "number",
    value: (row) => exact(groups[row][key]),
    cell: (row) => signed(groups[row][key]),
  });
  /** @param {"pairs" | "questions"} key @param {string} title @returns {TableColumn} */
  const size = (key, title) => ({ key, title, kind: "number", value: (row) => groups[row][key] });
  return table({
    name: `${name}-feature-${id}-groups`,
    caption: t("features.groups_caption", { feature: id }),
    rows: groups.length,
    columns: [
      {
        key: "group",
        title: t("frame.group"),
        kind: "text",
        value: (row) => groups[row].group,
        cell: (row) => t(`frame.group_${groups[row].group}`),
      },
      {
        key: "value",
        title: t("frame.value"),
        kind: "text",
        value: (row) => groups[row].value ?? "",
        cell: (row) =>
          groups[row].group === "all" ? "" : plainCell(groups[row].value || t("frame.none")),
      },
      limit("mean_best"),
      limit("mean_best_low"),
      limit("mean_best_high"),
      size("pairs", t("frame.pairs_n")),
      size("questions", t("frame.questions")),
    ],
  }).element;
}

/** A float32 with the fewest digits. @param {number | null} value */
function exact(value) {
  return value === null ? null : shortest(value);
}

/** @param {Record<string, number>} numbers */
function allNumbers(numbers) {
  const named = Object.entries(numbers).filter(([name]) => !["feature", "selected"].includes(name));
  return factList(named.map(([name, value]) => [columnTitle(name), shown(value)]));
}
