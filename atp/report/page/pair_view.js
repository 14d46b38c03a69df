// @ts-check
/**
 * One pair: its words, its features, how far to trust them, and where in the prompt they act.
 *
 * @import { Address, TableBlock } from "./overview.d.ts"
 * @import { Listed, PairTexts } from "./pair_blocks.js"
 * @import { Judgement } from "./pair_trust.js"
 */
import { format } from "./address.js";
import { decoded, overview } from "./blocks.js";
import { dataText, el } from "./dom.js";
import { t } from "./language.js";
import { count, shortest, shown } from "./numbers.js";
import { listedOf, textsOf } from "./pair_blocks.js";
import { pairFeatures } from "./pair_features.js";
import { pairPrompt } from "./pair_prompt.js";
import { judgements } from "./pair_trust.js";
import { textIn } from "./pairs_filter.js";
import { orderedPairs, pairLink } from "./pairs_table.js";
import { plainCell } from "./table.js";
import { quoted, sentence, withOptions, words } from "./word_elements.js";
import { marked } from "./words.js";

/** What to do about a pair without scores, by the start of its reason. */
const REMEDIES = [
  ["No differing tokens", "do_no_difference"],
  ["Empty", "do_empty"],
  ["Sequence too long", "do_too_long"],
  ["OOM", "do_oom"],
  ["Not finite", "do_not_finite"],
  ["No base variation", "do_input"],
  ["Prompt", "do_input"],
  ["Response", "do_input"],
  ["Base", "do_input"],
];

/** @param {HTMLElement} root @param {Address} address */
export async function pairView(root, address) {
  const { result, id } = address;
  root.append(el("h1", {}, t("pairs.one_title", { pair: id ?? "" })));
  const pairs = await decoded(`r${result}-pairs`);
  const pair = Number(id || NaN);
  if (!(pair in pairs.columns.question)) {
    root.append(el("p", { role: "alert" }, t("pairs.missing", { pair: id ?? "" })));
    return;
  }
  const scored = textIn(pairs, "outcome", pair) === "scored";
  const [texts, listed, between] = await Promise.all([
    textsOf(result, pair),
    listedOf(result, pair),
    steps(address, pair),
  ]);
  root.append(facts(pairs, pair), between);
  const judged = scored ? judgementsOf(pairs, pair, listed) : [];
  root.append(
    scored ? metric(result, pairs, pair) : notScored(pairs, pair),
    ...warnings(judged),
    pairWords(pairs, pair, texts, scored),
  );
  if (scored) {
    pairFeatures(root, address, pair, listed);
    root.append(trust(judged));
    await pairPrompt(root, address, pair, listed);
  }
}

/** @param {TableBlock} pairs @param {number} pair */
function facts(pairs, pair) {
  const { question, variation } = pairs.columns;
  /** @param {string} name */
  const text = (name) => el("span", {}, plainCell(textIn(pairs, name, pair) || t("pairs.none")));
  const nodes = {
    question: text("question_id"),
    template: text("template_type"),
    dataset: text("dataset"),
    place: el("code", {}, `results[${question[pair]}].variations[${variation[pair]}]`),
  };
  return el("p", { class: "soft" }, sentence("pairs.one_facts", nodes));
}

/** The ways to the pairs before and after it in the table. @param {Address} address @param {number} pair */
async function steps({ result, parameters }, pair) {
  const from = Object.fromEntries(new URLSearchParams(parameters.from));
  const order = await orderedPairs(result, from);
  const place = order.indexOf(pair);
  /** @param {"prev" | "next"} rel @param {number} step @param {string} text */
  const link = (rel, step, text) =>
    place < 0 || order[place + step] === undefined
      ? el("span", { class: "soft" }, text)
      : el("a", { href: pairLink(result, order[place + step], from), rel }, text);
  return el(
    "nav",
    { class: "steps", "aria-label": t("pairs.steps") },
    link("prev", -1, t("pairs.previous")),
    place >= 0 && t("pairs.place", { n: count(place + 1), total: count(order.length) }),
    link("next", 1, t("pairs.next")),
    el("a", { href: format({ view: "pairs", result, parameters: from }) }, t("pairs.back")),
  );
}

/** The metric in a sentence. @param {number} result @param {TableBlock} pairs @param {number} pair */
function metric(result, pairs, pair) {
  const value = pairs.columns.metric[pair];
  const target = quoted(textIn(pairs, "target_token", pair));
  const base = quoted(textIn(pairs, "base_token", pair));
  const position = pairs.columns.token_position[pair];
  const size = shown(Math.abs(shortest(value)));
  /** @param {string} key @param {Record<string, Node>} nodes @param {Record<string, string | number>} [values] */
  const lead = (key, nodes, values) => el("p", { class: "lead" }, sentence(key, nodes, values));
  if (value === 0) {
    return lead("pairs.undecided", { target, base });
  }
  if (overview.results[result].metric === "log_prob_diff") {
    const winner = t(value > 0 ? "pairs.flagged_one" : "pairs.base_one");
    return lead("pairs.prefers_sequence", { target, base }, { winner, size, position });
  }
  const [winner, loser] = value > 0 ? [target, base] : [base, target];
  return lead("pairs.prefers", { winner, loser }, { size, position });
}

/** Why a pair has no scores, and what to do about it. @param {TableBlock} pairs @param {number} pair */
function notScored(pairs, pair) {
  const reason = textIn(pairs, "reason", pair) ?? "–";
  const remedy = REMEDIES.find(([start]) => reason.startsWith(start))?.[1] ?? "do_again";
  const key = `pairs.not_scored_${textIn(pairs, "outcome", pair)}`;
  return el(
    "div",
    { class: "notice" },
    el("p", {}, sentence(key, { reason: dataText(reason) })),
    el("p", {}, withOptions(t(`pairs.${remedy}`))),
  );
}

/**
 * Prompt and responses, with the contrast marked.
 *
 * @param {TableBlock} pairs
 * @param {number} pair
 * @param {PairTexts} texts
 * @param {boolean} scored
 */
function pairWords(pairs, pair, { prompt, response, base }, scored) {
  const target = (scored && textIn(pairs, "target_token", pair)) || "";
  const other = (scored && textIn(pairs, "base_token", pair)) || "";
  const flagged = marked(response ?? "", base ?? "", target, other);
  const neutral = marked(base ?? "", response ?? "", other, target);
  const unmarked = [flagged, neutral].some((pieces) => pieces.every(({ mark }) => !mark));
  const tokens = { target: quoted(target), base: quoted(other) };
  /** @param {string} key @param {string | null} text @param {import("./words.js").Piece[]} pieces */
  const part = (key, text, pieces) =>
    el(
      "div",
      {},
      el("h3", {}, t(key)),
      !text ? el("p", { class: "soft" }, t("pairs.no_text")) : words(pieces),
    );
  return el(
    "section",
    {},
    el("h2", {}, t("pairs.words")),
    part("pairs.prompt", prompt, [{ text: prompt ?? "", mark: false }]),
    el(
      "div",
      { class: "beside" },
      part("pairs.flagged_response", response, flagged),
      part("pairs.base_response", base, neutral),
    ),
    scored && unmarked && el("p", { class: "notice" }, sentence("pairs.no_mark", tokens)),
  );
}

/** @param {TableBlock} pairs @param {number} pair @param {Listed[]} listed */
function judgementsOf(pairs, pair, listed) {
  const boundary = textIn(pairs, "boundary", pair);
  return judgements((name) => pairs.columns[name]?.[pair], listed, boundary);
}

/** What a reader has to know before the features. @param {Judgement[]} judged */
function warnings(judged) {
  return judged.filter(({ level, name }) => level === "bad" || name === "boundary").map((each) =>
    el(
      "p",
      { class: "notice" },
      el("strong", {}, t(`pairs.d_${each.name}`)),
      ": ",
      withOptions(t(each.key, each.values)),
    )
  );
}

/** How far to trust the scores. @param {Judgement[]} judged */
function trust(judged) {
  const items = judged.map(({ name, level, key, values }) => [
    el(
      "dt",
      {},
      t(`pairs.d_${name}`),
      " ",
      el("span", { class: `level ${level}` }, t(`pairs.${level}`)),
    ),
    el("dd", {}, withOptions(t(key, values))),
  ]);
  return el(
    "section",
    {},
    el("h2", {}, t("pairs.diagnostics")),
    el("dl", { class: "trust" }, items.flat()),
  );
}
