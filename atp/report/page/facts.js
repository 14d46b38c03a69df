// @ts-check
/** Facts of a run, as lists of a name and a value. */
import { dataText, el } from "./dom.js";

/**
 * A value of the settings or of the metadata, as on the command line.
 *
 * @param {unknown} value
 * @returns {string}
 */
export function asText(value) {
  if (value === null || value === undefined) {
    return "–";
  }
  if (Array.isArray(value)) {
    return value.map(asText).join(", ");
  }
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** A setting of a run as an option of the command line. @param {[name: string, value: unknown]} setting */
export function asOption([name, value]) {
  return `${name.replaceAll("_", "-")}=${asText(value)}`;
}

/**
 * @param {[name: string, value: unknown][]} facts without those that have no value
 * @param {string} [style]
 */
export function factList(facts, style = "facts") {
  const known = facts.filter(([, value]) => value !== null && value !== undefined);
  return el(
    "dl",
    { class: style },
    known.map(([name, value]) =>
      el(
        "div",
        {},
        el("dt", {}, name),
        el("dd", {}, value instanceof Node ? value : dataText(asText(value))),
      )
    ),
  );
}

/**
 * A short table, whole in the page.
 *
 * @param {string} caption
 * @param {{ title: string, kind: "number" | "text" }[]} columns
 * @param {(Node | string)[][]} rows the first cell is the row's header
 */
export function plainTable(caption, columns, rows) {
  const cells = (/** @type {(Node | string)[]} */ row) =>
    row.map((cell, index) =>
      index === 0
        ? el("th", { scope: "row", class: columns[index].kind }, cell)
        : el("td", { class: columns[index].kind }, cell)
    );
  const heads = columns.map(({ title, kind }) => el("th", { scope: "col", class: kind }, title));
  const element = el(
    "table",
    { class: "plain" },
    el("caption", {}, caption),
    el("thead", {}, el("tr", {}, heads)),
    el("tbody", {}, rows.map((row) => el("tr", {}, cells(row)))),
  );
  return el("div", { class: "wide", tabindex: 0, role: "region", "aria-label": caption }, element);
}
