// @ts-check
/**
 * All pairs of a result: which there are, why some have no scores, and the way to each.
 *
 * @import { Address } from "./overview.d.ts"
 */
import { format, replace } from "./address.js";
import { decoded, overview } from "./blocks.js";
import { el } from "./dom.js";
import { t } from "./language.js";
import { count } from "./numbers.js";
import { textIn, valuesOf, WITHOUT } from "./pairs_filter.js";
import { pairLink, pairsTable } from "./pairs_table.js";
import { table } from "./table.js";

const POOR = "0.5"; // variance explained
const OUTCOMES = ["scored", "skipped", "error"];

/** @param {HTMLElement} root @param {Address} address */
export async function pairsView(root, address) {
  const { result } = address;
  const parameters = { ...address.parameters };
  root.append(el("h1", {}, t("pairs.title")), el("p", {}, t("pairs.intro")));
  const pairs = await decoded(`r${result}-pairs`);
  const status = el("p", { class: "kept", role: "status" });
  const place = el("div");
  const form = el(
    "form",
    { class: "filters", onsubmit: (/** @type {Event} */ event) => event.preventDefault() },
    el("h2", {}, t("pairs.filters")),
    chooser("template", valuesOf(pairs, "template_type")),
    chooser("dataset", valuesOf(pairs, "dataset")),
    chooser("outcome", OUTCOMES),
    poorField(),
    featureField(),
    box("texts", t("pairs.in_texts")),
    el("a", { href: format({ view: "pairs", result }) }, t("pairs.reset")),
  );
  root.append(form, status, place);
  let latest = 0;
  await show();

  async function show() {
    const mine = ++latest;
    if (parameters.texts) {
      status.textContent = t("pairs.searching");
    }
    const { columns, exported, filter, search } = await pairsTable(result, parameters);
    if (mine !== latest) {
      return; // the filter has changed while blocks were read
    }
    const shown = table({
      name: `${overview.results[result].name}-pairs`,
      caption: t("pairs.caption", { name: overview.results[result].name }),
      columns,
      exported,
      rows: pairs.rows,
      filter,
      search,
      searchLabel: t("pairs.search"),
      parameters,
      onChange: (state) => {
        Object.assign(parameters, state);
        write();
        say(shown.shownRows());
      },
    });
    place.replaceChildren(shown.element);
    say(shown.shownRows());
  }

  /** @param {Uint32Array} kept */
  function say(kept) {
    const of = Object.fromEntries(OUTCOMES.map((outcome) => [outcome, 0]));
    for (const pair of kept) {
      of[textIn(pairs, "outcome", pair) ?? "error"]++;
    }
    status.textContent = t("pairs.kept", {
      n: count(kept.length),
      total: count(pairs.rows),
      scored: count(of.scored),
      skipped: count(of.skipped),
      failed: count(of.error),
    });
  }

  function write() {
    replace({ view: "pairs", result, parameters });
    for (const link of place.querySelectorAll("a[data-pair]")) {
      link.setAttribute(
        "href",
        pairLink(result, Number(link.getAttribute("data-pair")), parameters),
      );
    }
  }

  /** @param {string} name @param {string} value */
  function set(name, value) {
    parameters[name] = value;
    write();
    show();
  }

  /** @param {string} name @param {string[]} values */
  function chooser(name, values) {
    const select = el(
      "select",
      { onchange: () => set(name, select.value) },
      el("option", { value: "" }, t("pairs.any")),
      values.map((value) => {
        const known = value === WITHOUT ? t("pairs.none") : value;
        const text = name === "outcome" ? t(`pairs.${value}`) : known;
        return el("option", { value, selected: value === parameters[name] }, text);
      }),
    );
    return el("label", {}, t(`pairs.${name}`), select);
  }

  /** @param {string} name @param {string} text */
  function box(name, text) {
    const input = el("input", {
      type: "checkbox",
      checked: Boolean(parameters[name]),
      onchange: () => set(name, input.checked ? "1" : ""),
    });
    return el("label", {}, input, text);
  }

  function poorField() {
    const apply = () => set("poor", check.checked ? threshold.value : "");
    const check = el("input", {
      type: "checkbox",
      checked: Boolean(parameters.poor),
      onchange: apply,
    });
    const threshold = el("input", {
      type: "number",
      value: parameters.poor || POOR,
      step: "any",
      "aria-label": t("pairs.threshold"),
      oninput: () => check.checked && apply(),
    });
    const label = el("label", {}, check, t("pairs.only_poor"));
    return el("span", {}, label, threshold);
  }

  function featureField() {
    const input = el("input", {
      type: "number",
      min: 0,
      step: 1,
      value: parameters.feature ?? "",
      oninput: () => set("feature", input.value),
    });
    return el("label", {}, t("pairs.with_feature"), input);
  }
}
