// @ts-check
/** The frame: it opens the view that the address names, and holds language, colours and result. */
import { aboutView } from "./about_view.js";
import { format, go, OF_ALL_RESULTS, parse } from "./address.js";
import { answerView } from "./answer_view.js";
import { overview } from "./blocks.js";
import { compareView } from "./compare_view.js";
import { el } from "./dom.js";
import { eraseLeftCharts } from "./draw.js";
import { featureView } from "./feature_view.js";
import { featuresView } from "./features_view.js";
import { interventionView } from "./intervention_view.js";
import { language, setLanguage, t } from "./language.js";
import { recall, remember } from "./memory.js";
import { pairView } from "./pair_view.js";
import { pairsView } from "./pairs_view.js";

/**
 * A view fills its root; its heading is there before it first waits.
 *
 * @typedef {(root: HTMLElement, address: import("./overview.d.ts").Address) => void | Promise<void>} View
 */

/** @type {Record<string, View | undefined>} */
const views = {
  about: aboutView,
  answer: answerView,
  compare: compareView,
  feature: featureView,
  features: featuresView,
  intervention: interventionView,
  pair: pairView,
  pairs: pairsView,
};
/** Which entry of the navigation is marked. @type {Record<string, string>} */
const SECTIONS = { feature: "features", pair: "pairs" };

let result = 0; // that the frame leads to

const content = /** @type {HTMLElement} */ (document.querySelector("main"));

/** @param {boolean} [moved] whether the reader asked for another view: then the focus follows */
async function open(moved = true) {
  const address = parse(location.hash);
  const view = views[address.view];
  const root = el("div", { class: `view ${address.view}` });
  const known = OF_ALL_RESULTS.has(address.view) || address.result < overview.results.length;
  content.replaceChildren(root);
  eraseLeftCharts();
  mark(address);
  try {
    const done = view && known ? view(root, address) : missing(root);
    arrive(root, address, moved);
    await done;
  } catch (error) {
    root.append(
      el("p", { class: "problem", role: "alert" }, t("frame.problem", { reason: String(error) })),
    );
    throw error;
  }
}

/** @param {HTMLElement} root */
function missing(root) {
  root.append(
    el("h1", {}, t("frame.missing")),
    el("p", {}, el("a", { href: "#/" }, t("frame.to_answer"))),
  );
}

/**
 * Names the page after the view.
 *
 * @param {HTMLElement} root
 * @param {import("./overview.d.ts").Address} address
 * @param {boolean} moved
 */
function arrive(root, { view }, moved) {
  const heading = root.querySelector("h1");
  const of = OF_ALL_RESULTS.has(view) ? [] : [overview.results[result]?.name];
  document.title = [heading?.textContent, ...of, "atp"].filter((part) => part).join(" · ");
  if (moved && heading) {
    scrollTo(0, 0);
    heading.tabIndex = -1;
    heading.focus({ preventScroll: true });
  }
}

/** Leads the navigation to the address's result. @param {import("./overview.d.ts").Address} address */
function mark({ view, result: named }) {
  result = OF_ALL_RESULTS.has(view) ? result : named;
  for (const link of document.querySelectorAll("a[data-view]")) {
    const target = link.getAttribute("data-view") ?? "";
    const id = target === "intervention" ? "0" : null;
    link.setAttribute("href", format({ view: target, result, id }));
    if (target === (SECTIONS[view] ?? view)) {
      link.setAttribute("aria-current", "page");
    } else {
      link.removeAttribute("aria-current");
    }
  }
  select("result").value = String(result);
}

/** @param {string} name of a choice in the frame @returns {HTMLSelectElement} */
function select(name) {
  return /** @type {HTMLSelectElement} */ (document.getElementById(`choose-${name}`));
}

/** @param {string} name */
function setTheme(name) {
  document.documentElement.dataset.theme = name;
  remember("theme", name);
}

select("language").value = language();
select("language").addEventListener("change", () => {
  setLanguage(select("language").value);
  open(false);
});
select("theme").value = recall("theme") ?? "auto";
select("theme").addEventListener("change", () => setTheme(select("theme").value));
select("result").addEventListener("change", () => {
  const { view, id } = parse(location.hash);
  const same = view === "feature" ? { view, id } : { view: SECTIONS[view] ?? view };
  const open = OF_ALL_RESULTS.has(view) ? { view: "answer" } : same;
  go({ ...open, result: Number(select("result").value) });
});
document.querySelector(".skip")?.addEventListener("click", (event) => {
  event.preventDefault(); // its address is no view's
  content.tabIndex = -1;
  content.focus();
});
addEventListener("hashchange", () => open());

setTheme(select("theme").value);
setLanguage(language());
open(false);
