// @ts-check
/**
 * A report of `atp intervene`: what removing the selected features changes, beside random ones.
 *
 * @import { Changes, Comparison, Experiment, Limits, RemovedFeatures } from "./intervention.d.ts"
 * @import { Address } from "./overview.d.ts"
 */
import { format } from "./address.js";
import { overview } from "./blocks.js";
import { dataText, el } from "./dom.js";
import { draw } from "./draw.js";
import { flagComparison } from "./flag_comparison.js";
import { interventionPairs } from "./intervention_pairs.js";
import { t } from "./language.js";
import { count, percent, shown, signed } from "./numbers.js";
import { table } from "./table.js";
import { sentence } from "./word_elements.js";

const SETS = /** @type {const} */ (["selected", "random", "negative"]);

/** @param {HTMLElement} root @param {Address} address */
export async function interventionView(root, { id }) {
  const number = Number(id ?? 0);
  const intervention = overview.interventions[number];
  root.append(el("h1", {}, t("intervention.title")));
  if (!intervention) {
    root.append(el("p", { role: "alert" }, t("intervention.missing", { n: id ?? "" })));
    return;
  }
  root.append(
    overview.interventions.length > 1
      ? others(number)
      : el("p", { class: "soft" }, dataText(intervention.file)),
  );
  if (intervention.comparison) {
    flagComparison(
      root,
      /** @type {Comparison & object} */ (/** @type {unknown} */ (intervention)),
    );
  } else {
    await experiment(
      root,
      /** @type {Experiment & object} */ (/** @type {unknown} */ (intervention)),
      number,
    );
  }
}

/** The ways to the other reports. @param {number} here */
function others(here) {
  const links = overview.interventions.map(({ file }, number) =>
    el(
      "li",
      {},
      el("a", {
        href: format({ view: "intervention", id: String(number) }),
        "aria-current": number === here ? "page" : null,
      }, dataText(file)),
    )
  );
  return el(
    "nav",
    { class: "others", "aria-label": t("intervention.choose") },
    el("ul", {}, links),
  );
}

/** @param {HTMLElement} root @param {Experiment} intervention @param {number} number */
async function experiment(root, intervention, number) {
  const { summary, metadata, cautions } = intervention;
  const { settings, features } = metadata.atp;
  const changes = el("div");
  const positions = t(`intervention.${settings.spare_first ? "spare_first" : "everywhere"}`);
  root.append(
    el("p", { class: "lead" }, verdict(summary.verdict)),
    el("p", {}, t("intervention.counts", counted(summary))),
    ...before(cautions),
    el(
      "section",
      {},
      el("h2", {}, t("intervention.sets")),
      el("p", {}, t("intervention.intro", { strength: settings.strength, positions })),
      setsTable(intervention),
      el("p", {}, t("intervention.explain")),
      against(summary),
      joint(intervention),
      responses(intervention),
    ),
    el("section", {}, el("h2", {}, t("intervention.change")), changes),
  );
  const rows = setsOf(summary).map(([set, { mean_change, interval }]) => {
    const [low, high] = interval ?? [null, null];
    return { set, mean_change, low, high };
  });
  draw(changes, "intervention", rows);
  await interventionPairs(root, intervention, number);
  root.append(removed(features.saes));
}

/** What a reader has to know before the numbers; the report has it in English. @param {string[]} cautions */
function before(cautions) {
  const list = el(
    "ul",
    { class: "notice", lang: "en" },
    cautions.map((text) => el("li", {}, text)),
  );
  return cautions.length ? [el("section", {}, el("h2", {}, t("intervention.cautions")), list)] : [];
}

/** The sentence of the report, in the reader's language. @param {string} text */
function verdict(text) {
  const key = Object.keys(overview.texts.en).find((name) =>
    name.startsWith("intervention.verdict_") && overview.texts.en[name] === text
  );
  return key ? t(key) : el("span", { lang: "en" }, text);
}

/** @param {Experiment["summary"]} summary */
function counted({ pairs, questions, skipped, errors, features }) {
  const counts = Object.entries({ pairs, questions, skipped, errors, features });
  return Object.fromEntries(counts.map(([name, n]) => [name, count(n)]));
}

/**
 * The sets of features that were removed, each with its changes.
 *
 * @param {Experiment["summary"]} summary
 * @returns {[string, Changes][]}
 */
function setsOf(summary) {
  return SETS.flatMap((set) => {
    const changes = summary[set];
    return changes ? [[set, changes]] : [];
  });
}

/** @param {Experiment} intervention */
function setsTable({ file, summary }) {
  const nothing = {
    mean_after: summary.mean_before,
    side_effects: { perplexity_after: summary.selected.side_effects?.perplexity_before },
  };
  const rows = [
    { name: t("intervention.nothing"), ...nothing },
    ...setsOf(summary).map(([set, changes]) => ({
      ...changes,
      name: t(`intervention.${set}`, { n: summary.random?.sets ?? 0 }),
    })),
  ];
  /** @type {[key: string, value: (row: any) => number | undefined, cell: (row: any) => string][]} */
  const numbers = [
    ["mean_metric", (row) => row.mean_after, (row) => shown(row.mean_after)],
    ["change", (row) => row.mean_change, (row) => signed(row.mean_change)],
    ["low", (row) => row.interval?.[0], (row) => limitsInWords(row.interval)],
    ["flips", (row) => row.flips, (row) => percent(row.flips ?? NaN)],
    [
      "kl",
      (row) => row.side_effects?.kl_per_token,
      (row) => shown(row.side_effects?.kl_per_token),
    ],
    [
      "perplexity",
      (row) => row.side_effects?.perplexity_after,
      (row) => shown(row.side_effects?.perplexity_after),
    ],
  ];
  return table({
    name: `${file.replace(/\.json$/, "")}-sets`,
    caption: t("intervention.sets_caption"),
    rows: rows.length,
    columns: [
      { key: "set", title: t("intervention.set"), kind: "text", value: (row) => rows[row].name },
      ...numbers.map(([key, value, cell]) => ({
        key,
        title: t(`intervention.${key}`),
        kind: /** @type {const} */ ("number"),
        value: (/** @type {number} */ row) => value(rows[row]) ?? null,
        cell: (/** @type {number} */ row) => cell(rows[row]),
      })),
    ],
    exported: [
      { key: "high", value: (row) => /** @type {Changes} */ (rows[row]).interval?.[1] ?? null },
    ],
  }).element;
}

/** The change beside that of random features. @param {Experiment["summary"]} summary */
function against({ random }) {
  if (!random) {
    return [];
  }
  const { difference, difference_interval, p_random } = random;
  const values = { difference: signed(difference), interval: limitsInWords(difference_interval) };
  return [el("p", {}, t("intervention.against", { ...values, p: percent(p_random) }))];
}

/** What `atp features --joint-effect` has measured. @param {Experiment} intervention */
function joint({ metadata }) {
  return metadata.atp.features.saes.flatMap(({ sae, joint }) => {
    if (!joint) {
      return [];
    }
    const values = {
      effect: signed(joint.mean_effect),
      effect_interval: limitsInWords(joint.effect_interval),
      sum: signed(joint.mean_sum_of_single),
      sum_interval: limitsInWords(joint.sum_of_single_interval),
    };
    return [el("p", {}, sentence("intervention.joint", { sae: dataText(sae.spec) }, values))];
  });
}

/** What --regenerate has made. @param {Experiment} intervention */
function responses({ answers }) {
  if (!answers) {
    return [];
  }
  const values = { changed: count(answers.changed), answered: count(answers.answered) };
  return [el("p", {}, t("intervention.answers", values))];
}

/** @param {Limits | undefined} limits */
function limitsInWords(limits) {
  return limits ? `${signed(limits[0])} … ${signed(limits[1])}` : "–";
}

/** The removed features of each dictionary. @param {RemovedFeatures[]} saes */
function removed(saes) {
  return el(
    "section",
    {},
    el("h2", {}, t("intervention.features")),
    saes.map(({ sae, selected }) => {
      const result = overview.results.findIndex((each) => each.sae.sha256 === sae.sha256);
      const links = selected.flatMap((id) => [
        result < 0 ? id : el("a", { href: format({ view: "feature", result, id }) }, id),
        " ",
      ]);
      return el("p", {}, dataText(sae.spec), ": ", links);
    }),
  );
}
