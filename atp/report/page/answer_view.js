// @ts-check
/**
 * The first screen: the answer in sentences, the strongest features, what was run.
 *
 * @import { Address, Result } from "./overview.d.ts"
 * @import { TableColumn } from "./table.js"
 */
import { format } from "./address.js";
import { overview } from "./blocks.js";
import { dataText, el } from "./dom.js";
import { draw } from "./draw.js";
import { asOption, factList, plainTable } from "./facts.js";
import { addressOf, columnTitle, featureLink } from "./feature_rows.js";
import { language, t } from "./language.js";
import { count, signed } from "./numbers.js";
import { plainCell, table } from "./table.js";

/** @param {HTMLElement} root @param {Address} address */
export async function answerView(root, { result }) {
  const content = overview.results[result];
  const chart = el("div");
  const note = t("frame.strongest_note", { unit: t(`frame.unit_${content.metric}`) });
  root.append(
    el("h1", {}, t("frame.answer_title", { model: content.model })),
    el("p", { class: "soft" }, dataText(inShort(content))),
    el(
      "div",
      { class: "first-screen" },
      el("div", { class: "sentences" }, sentences(content), links(result)),
      content.strongest.length
        ? el(
          "figure",
          {},
          el(
            "figcaption",
            {},
            el("h2", {}, t("frame.strongest")),
            el("p", { class: "soft" }, note),
          ),
          chart,
          el(
            "details",
            {},
            el("summary", {}, t("frame.as_table")),
            strongestTable(result, content),
          ),
        )
        : el("p", {}, t("frame.no_strongest")),
      el(
        "section",
        { class: "run" },
        el("h2", {}, t("frame.run")),
        whatWasRun(content),
        reasons(content),
      ),
    ),
  );
  if (content.strongest.length) {
    const rows = content.strongest.map((row) => ({ ...row, href: addressOf(result, row.feature) }));
    await draw(chart, "strongest", rows);
  }
}

/** What was run, in a line. @param {Result} content */
function inShort({ name, sae, counts }) {
  const { scored = 0, pairs = 0 } = counts;
  const parts = [
    name,
    sae.spec,
    sae.hook_name,
    t("frame.pairs_scored", { scored: count(scored), pairs: count(pairs) }),
  ];
  return [...new Set(parts.filter((part) => part))].join(" · ");
}

/** @param {Result} content */
function sentences(content) {
  const answer = content.answer[language()] ?? content.answer.en ?? [];
  return answer.map((sentence) => el("p", { dir: "auto" }, sentence));
}

/** @param {number} result */
function links(result) {
  return el(
    "p",
    { class: "onward" },
    el("a", { href: format({ view: "features", result }) }, t("frame.all_features")),
    el("a", { href: format({ view: "pairs", result }) }, t("frame.all_pairs")),
    el("a", { href: format({ view: "about" }) }, t("frame.read_limits")),
  );
}

/** @param {Result} content */
function whatWasRun({ model, sae, metric, counts, settings }) {
  const { pairs = 0, scored = 0, skipped = 0, error = 0 } = counts;
  const others = t("frame.counts_more", { skipped: count(skipped), error: count(error) });
  const changed = Object.entries(settings).map((setting) => el("code", {}, asOption(setting)));
  return factList([
    [t("frame.model"), model],
    [t("frame.dictionary"), sae.spec],
    [t("frame.hook"), sae.hook_name],
    [t("frame.width"), typeof sae.d_sae === "number" ? count(sae.d_sae) : null],
    [t("frame.metric"), t(`frame.metric_${metric}`)],
    [t("frame.questions"), counts.questions === undefined ? null : count(counts.questions)],
    [
      t("frame.scored"),
      `${t("frame.scored_of", { scored: count(scored), pairs: count(pairs) })}; ${others}`,
    ],
    [
      t("frame.settings"),
      changed.length ? el("span", { class: "codes" }, changed) : t("frame.defaults"),
    ],
  ]);
}

/** @param {Result} content */
function reasons({ reasons }) {
  if (reasons.length === 0) {
    return null;
  }
  return plainTable(
    t("frame.reasons"),
    [
      { title: t("frame.reason"), kind: "text" },
      { title: t("frame.kind"), kind: "text" },
      { title: t("frame.pairs_n"), kind: "number" },
    ],
    reasons.map(([kind, reason, pairs]) => [plainCell(reason), t(`frame.${kind}`), count(pairs)]),
  );
}

/** @param {number} result @param {Result} content */
function strongestTable(result, { name, strongest }) {
  /** @param {"mean_best" | "mean_best_low" | "mean_best_high"} key @returns {TableColumn} */
  const limit = (key) => ({
    key,
    title: columnTitle(key),
    kind: "number",
    value: (row) => strongest[row][key],
    cell: (row) => signed(strongest[row][key]),
  });
  return table({
    name: `${name}-strongest`,
    caption: t("frame.strongest"),
    rows: strongest.length,
    columns: [
      {
        key: "feature",
        title: t("frame.feature"),
        kind: "number",
        value: (row) => Number(strongest[row].feature),
        cell: (row) => featureLink(result, strongest[row].feature),
      },
      limit("mean_best"),
      limit("mean_best_low"),
      limit("mean_best_high"),
      {
        key: "direction",
        title: t("frame.direction"),
        kind: "text",
        value: (row) => strongest[row].direction,
        cell: (row) => t(`frame.${strongest[row].direction}`),
      },
      {
        key: "label",
        title: t("frame.label"),
        kind: "text",
        value: (row) => strongest[row].label ?? "",
      },
    ],
  }).element;
}
