// @ts-check
/**
 * All facts of each run, what the columns mean, and the limits of the numbers.
 *
 * @import { Address, Result } from "./overview.d.ts"
 */
import { overview } from "./blocks.js";
import { dataText, el } from "./dom.js";
import { factList, plainTable } from "./facts.js";
import { columnMeaning, columnTitle, featuresOf } from "./feature_rows.js";
import { hasText, t } from "./language.js";
import { count, shown } from "./numbers.js";
import { plainCell } from "./table.js";

const LIMITS = ["linear", "wording", "variance", "intervals", "meaning", "bos"];

/** @param {HTMLElement} root @param {Address} address */
export async function aboutView(root, { result }) {
  root.append(
    el("h1", {}, t("frame.about_title")),
    el(
      "section",
      {},
      el("h2", {}, t("frame.limits")),
      el("ul", { class: "prose" }, LIMITS.map((name) => el("li", {}, t(`frame.limit_${name}`)))),
    ),
    ...overview.results.map(run),
  );
  if (overview.results.length === 0) {
    return;
  }
  const columns = Object.keys((await featuresOf(result)).columns);
  root.append(
    el(
      "section",
      {},
      el("h2", {}, t("frame.columns")),
      plainTable(
        t("frame.columns"),
        [{ title: t("frame.column"), kind: "text" }, { title: "CSV", kind: "text" }, {
          title: t("frame.meaning"),
          kind: "text",
        }],
        columns.map((name) => [columnTitle(name), el("code", {}, name), columnMeaning(name)]),
      ),
    ),
  );
}

/** @param {Result} content */
function run(content) {
  const facts = Object.entries(content.facts);
  const counts = Object.entries(content.counts).map(([name, n]) => [name, count(n)]);
  const means = Object.entries(content.means).map(([name, mean]) => [name, shown(mean)]);
  /** @type {[string, any][]} */
  const groups = [...facts.filter(([, value]) => isGroup(value)), ["sae", content.sae]];
  return el(
    "section",
    {},
    el("h2", {}, dataText(content.name)),
    el("h3", {}, t("frame.facts")),
    namedFacts([
      ["file", content.file],
      ...facts.filter(([, value]) => !isGroup(value)),
      ...counts,
      ...means,
    ]),
    groups.map(([name, group]) => [
      el("h3", {}, factName(name)),
      namedFacts(Object.entries(group)),
    ]).flat(),
    el("h3", {}, t("frame.settings")),
    Object.keys(content.settings).length
      ? factList(Object.entries(content.settings))
      : el("p", {}, t("frame.defaults")),
    content.groups.length ? groupTable(content) : null,
  );
}

/** @param {unknown} value */
function isGroup(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** @param {any[][]} facts */
function namedFacts(facts) {
  return factList(facts.map(([name, value]) => [factName(name), value]));
}

/** The text of a fact; a name that is new here stays as it is. @param {string} name */
function factName(name) {
  return hasText(`frame.fact_${name}`) ? t(`frame.fact_${name}`) : name;
}

/** @param {Result} content */
function groupTable({ name, groups }) {
  return plainTable(
    `${t("frame.groups")}: ${name}`,
    [
      { title: t("frame.group"), kind: "text" },
      { title: t("frame.value"), kind: "text" },
      { title: t("frame.pairs_n"), kind: "number" },
      { title: t("frame.questions"), kind: "number" },
    ],
    groups.map(({ group, value, pairs, questions }) => [
      t(`frame.group_${group}`),
      group === "all" ? "" : plainCell(value || t("frame.none")),
      count(pairs),
      count(questions),
    ]),
  );
}
