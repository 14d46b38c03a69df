// @ts-check
/**
 * The thresholds as the reader moves them: a slider and a number each, and the count of the
 * features above both.
 *
 * @import { TableBlock } from "./overview.d.ts"
 * @import { ThresholdName, Thresholds } from "./thresholds.js"
 */
import { el } from "./dom.js";
import { hasNumbers } from "./feature_rows.js";
import { t } from "./language.js";
import { count } from "./numbers.js";
import { COLUMN_OF, countPassing, limits, NAMES, numberFrom } from "./thresholds.js";

/**
 * Moves `thresholds` as the reader does, and says so.
 *
 * @param {{ features: TableBlock, thresholds: Thresholds, original: Thresholds, changed: () => void }} options
 * @returns {HTMLElement}
 */
export function thresholdsPanel({ features, thresholds, original, changed }) {
  const status = el("p", { class: "passing", role: "status" });
  const fields = NAMES.filter((name) =>
    COLUMN_OF[name] === "mean_best" || hasNumbers(features, COLUMN_OF[name])
  ).map((name) => field(name, features, thresholds, moved));
  const reset = el("button", {
    type: "button",
    onclick: () => {
      Object.assign(thresholds, original);
      fields.forEach(({ show }) => show());
      moved();
    },
  }, t("features.reset"));

  function say() {
    const n = countPassing(features, thresholds);
    status.textContent = t("features.passing", { n: count(n), all: count(features.rows) });
  }
  function moved() {
    say();
    changed();
  }
  say();
  return el("div", { class: "thresholds" }, fields.map(({ element }) => element), reset, status);
}

/**
 * @param {ThresholdName} name
 * @param {TableBlock} features
 * @param {Thresholds} thresholds
 * @param {() => void} moved
 */
function field(name, features, thresholds, moved) {
  const [low, high] = limits(features.columns[COLUMN_OF[name]]);
  const id = `threshold-${name}`;
  const label = t(`features.${name}`);
  const slider = el("input", {
    type: "range",
    min: low,
    max: high,
    step: "any",
    "aria-label": label,
  });
  const number = el("input", { type: "number", id, step: "any", autocomplete: "off" });

  function show() {
    const value = thresholds[name];
    number.value = value === null ? "" : String(value);
    slider.value = String(value ?? low);
  }
  slider.addEventListener("input", () => {
    thresholds[name] = Number(Number(slider.value).toPrecision(3));
    number.value = String(thresholds[name]);
    moved();
  });
  number.addEventListener("input", () => {
    thresholds[name] = numberFrom(number.value);
    slider.value = String(thresholds[name] ?? low);
    moved();
  });
  show();
  return {
    element: el("div", { class: "threshold" }, el("label", { for: id }, label), slider, number),
    show,
  };
}
