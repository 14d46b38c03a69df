// @ts-check
/**
 * A table of many rows: sorted, searched, copied. Only the rows in sight are in the page.
 */
import { dataText, el } from "./dom.js";
import { copied, save } from "./exporting.js";
import { t } from "./language.js";
import { count, csv, shown } from "./numbers.js";
import { arranged, nextSort, sortAsText, sortFrom, windowOf } from "./table_rows.js";

const SPARE_ROWS = 12;
const PRINTED_ROWS = 200;
const LONGEST_CELL = 160; // letters; the CSV has all

/**
 * @typedef {object} TableColumn
 * @property {string} key in the address and in the CSV
 * @property {string} title
 * @property {"number" | "text"} kind
 * @property {(row: number) => number | string | null} value exact: it sorts, and goes into the CSV
 * @property {(row: number) => Node | string} [cell] what is shown instead of the value
 * @property {string} [description] a tooltip of the header
 */

/**
 * @typedef {object} TableOptions
 * @property {string} name of the CSV file
 * @property {string} caption
 * @property {TableColumn[]} columns
 * @property {number} rows
 * @property {(row: number) => string} [search] the text of a row that words are sought in
 * @property {string} [searchLabel]
 * @property {(row: number) => boolean} [filter] asked anew at each refresh
 * @property {Record<string, string>} [parameters] of the address: q, sort
 * @property {(parameters: {q: string, sort: string}) => void} [onChange] for the address
 * @property {Pick<TableColumn, "key" | "value">[]} [exported] further columns of the CSV
 */

/**
 * @param {TableOptions} options
 * @returns {{ element: HTMLElement, refresh: () => void, shownRows: () => Uint32Array }}
 */
export function table(options) {
  const { name, caption, columns, rows, search, filter, parameters = {}, onChange } = options;
  let sort = sortFrom(parameters.sort);
  let words = parameters.q ?? "";
  let order = arranged(0, {});
  /** @type {Map<number, HTMLTableRowElement>} by position in the order */
  const drawn = new Map();

  const head = el("tr", { "aria-rowindex": 1 });
  const above = spacer();
  const below = spacer();
  const body = el("tbody", {}, above, below);
  const tableElement = el("table", {}, el("caption", {}, caption), el("thead", {}, head), body);
  const box = el(
    "div",
    { class: "table-box", tabindex: 0, role: "region", "aria-label": caption },
    tableElement,
  );
  const total = el("span", { class: "table-count", role: "status" });
  const said = el("span", { class: "table-said", role: "status" });
  const field = el("input", { type: "search", value: words, autocomplete: "off" });
  const bar = el(
    "div",
    { class: "table-bar" },
    search &&
      el("label", { class: "table-search" }, options.searchLabel ?? t("frame.search"), field),
    total,
    el("button", { type: "button", onclick: copy }, t("frame.copy_csv")),
    el("button", { type: "button", onclick: saveFile }, t("frame.save_csv")),
    said,
  );
  const printed = el("p", { class: "on-paper" });
  const element = el("div", { class: "table" }, bar, box, printed);

  const buttons = columns.map((column) => {
    const button = el(
      "button",
      { type: "button", title: column.description, onclick: () => sortBy(column) },
      column.title,
    );
    head.append(el("th", { scope: "col", class: column.kind }, button));
    return button;
  });
  field.addEventListener("input", () => {
    words = field.value;
    changed();
  });
  box.addEventListener("scroll", () => show(), { passive: true });
  new ResizeObserver(() => {
    holdWidths(false);
    show();
  }).observe(box);
  // Paper does not scroll: it shows the first rows.
  const printing = matchMedia("print");
  printing.addEventListener("change", () => show());

  function refresh() {
    const column = columns.find(({ key }) => key === sort?.key);
    order = arranged(rows, { filter, search, words, value: column?.value, falling: sort?.falling });
    columns.forEach(({ key }, index) => {
      const state = key !== sort?.key ? "none" : sort.falling ? "descending" : "ascending";
      buttons[index].parentElement?.setAttribute("aria-sort", state);
    });
    total.textContent = t("frame.rows", { shown: count(order.length), all: count(rows) });
    const onPaper = { shown: count(PRINTED_ROWS), all: count(order.length) };
    printed.textContent = order.length > PRINTED_ROWS ? t("frame.printed", onPaper) : "";
    tableElement.setAttribute("aria-rowcount", String(order.length + 1));
    said.textContent = "";
    for (const row of drawn.values()) {
      row.remove();
    }
    drawn.clear();
    show();
  }

  /** @param {TableColumn} column */
  function sortBy(column) {
    sort = nextSort(sort, column);
    changed();
  }

  function changed() {
    box.scrollTop = 0;
    refresh();
    onChange?.({ q: words, sort: sortAsText(sort) });
  }

  function show() {
    const [first, end] = printing.matches ? [0, Math.min(order.length, PRINTED_ROWS)] : windowOf({
      scrolled: box.scrollTop,
      height: box.clientHeight || 600,
      rowHeight: rowHeight(),
      rows: order.length,
      spare: SPARE_ROWS,
    });
    for (const [position, row] of drawn) {
      if (position < first || position >= end) {
        if (row.contains(document.activeElement)) {
          box.focus({ preventScroll: true });
        }
        row.remove();
        drawn.delete(position);
      }
    }
    for (let position = end - 1, next = below; position >= first; position--) {
      let row = drawn.get(position);
      if (!row) {
        row = drawnRow(position);
        drawn.set(position, row);
        next.before(row);
      }
      next = row;
    }
    stretch(above, first * rowHeight());
    stretch(below, (order.length - end) * rowHeight());
    holdWidths(true);
  }

  /** Columns only grow while other rows come into sight. @param {boolean} hold */
  function holdWidths(hold) {
    const cells = [...head.cells];
    const widths = cells.map((cell) => hold ? `${cell.offsetWidth}px` : "");
    cells.forEach((cell, index) => cell.style.minInlineSize = widths[index]);
  }

  /** @param {number} position */
  function drawnRow(position) {
    const row = order[position];
    const line = el("tr", { "aria-rowindex": position + 2 });
    columns.forEach((column, index) => {
      const content = column.cell ? column.cell(row) : plainCell(column.value(row));
      line.append(
        index === 0
          ? el("th", { scope: "row", class: column.kind }, content)
          : el("td", { class: column.kind }, content),
      );
    });
    return line;
  }

  /** All rows have the height that the style gives them. */
  function rowHeight() {
    return 2 * parseFloat(getComputedStyle(document.documentElement).fontSize);
  }

  /** Every row that passes, with exact numbers. */
  function asCsv() {
    const fields = [...columns, ...(options.exported ?? [])];
    const lines = Array.from(order, (row) => fields.map((field) => field.value(row)));
    return csv([fields.map(({ key }) => key), ...lines]);
  }

  async function copy() {
    const done = await copied(asCsv());
    said.textContent = done
      ? t("frame.copied", { rows: count(order.length) })
      : t("frame.not_copied");
  }

  function saveFile() {
    save(`${name}.csv`, asCsv());
    said.textContent = t("frame.saved", { file: `${name}.csv` });
  }

  refresh();
  return { element, refresh, shownRows: () => order };
}

/** @param {number | string | null} value */
export function plainCell(value) {
  if (typeof value === "number") {
    return shown(value);
  }
  const text = value ?? "";
  return dataText(text.length > LONGEST_CELL ? `${text.slice(0, LONGEST_CELL)}…` : text);
}

function spacer() {
  return el("tr", { class: "spacer", "aria-hidden": "true" }, el("td"));
}

/** @param {HTMLTableRowElement} row @param {number} height */
function stretch(row, height) {
  row.hidden = height === 0;
  row.cells[0].style.height = `${height}px`;
}
