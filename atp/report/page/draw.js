// @ts-check
/**
 * Draws the charts: Vega-Lite specifications that Python wrote, with rows of this page.
 *
 * @import { ChartSpecification } from "./overview.d.ts"
 */
import { overview, parsed } from "./blocks.js";
import { el } from "./dom.js";
import { language, t } from "./language.js";

/**
 * What this page uses of Vega's view.
 *
 * @typedef {object} ChartView
 * @property {(name: string, value: unknown) => ChartView} signal
 * @property {() => Promise<unknown>} runAsync
 * @property {(width: number) => ChartView} width
 * @property {() => void} finalize
 */

/** @type {Map<HTMLElement, { view: ChartView, observer: ResizeObserver }>} */
const charts = new Map();

/**
 * Draws a chart into an element; `null` if it cannot be drawn, or if its view was left meanwhile.
 *
 * @param {HTMLElement} element
 * @param {string} name of the chart
 * @param {Record<string, unknown>[]} rows
 * @param {Record<string, unknown>} [parameters] of the specification
 * @returns {Promise<ChartView | null>}
 */
export async function draw(element, name, rows, parameters = {}) {
  await parsed; // the library is the last script of the file
  const specification = overview.charts[language()]?.[name];
  erase(element);
  if (!specification || !element.isConnected) {
    return null;
  }
  element.classList.add("chart");
  try {
    // The library is a script of its own: it only leaves a global name.
    const { vegaEmbed } = /** @type {any} */ (globalThis);
    const { view } = await vegaEmbed(element, filled(specification, rows, parameters), {
      ast: true, // no eval: the page's security policy forbids it
      renderer: "svg",
      actions: false,
      defaultStyle: false,
      tooltip: { disableDefaultStyle: true },
    });
    charts.set(element, { view, observer: fitted(element, view) });
    return view;
  } catch (error) {
    element.replaceChildren(
      el("p", { class: "problem" }, t("frame.chart_problem", { reason: String(error) })),
    );
    return null;
  }
}

/** Gives back what the charts hold that are no longer in the page. */
export function eraseLeftCharts() {
  for (const element of charts.keys()) {
    if (!element.isConnected) {
      erase(element);
    }
  }
}

/** @param {HTMLElement} element */
function erase(element) {
  const chart = charts.get(element);
  chart?.observer.disconnect();
  chart?.view.finalize();
  charts.delete(element);
  element.replaceChildren();
}

/**
 * @param {ChartSpecification} specification
 * @param {Record<string, unknown>[]} rows
 * @param {Record<string, unknown>} parameters
 * @returns {ChartSpecification}
 */
function filled(specification, rows, parameters) {
  return {
    ...structuredClone(specification),
    params: specification.params?.map((param) =>
      param.name in parameters ? { ...param, value: parameters[param.name] } : param
    ),
    datasets: { table: rows },
  };
}

/** Vega follows the window; a chart follows its box. @param {HTMLElement} element @param {ChartView} view */
function fitted(element, view) {
  let width = element.clientWidth;
  const observer = new ResizeObserver(() => {
    if (element.clientWidth !== width && element.clientWidth > 0) {
      width = element.clientWidth;
      view.signal("width", width).runAsync().catch(() => {}); // a chart of fixed width stays
    }
  });
  observer.observe(element);
  return observer;
}
