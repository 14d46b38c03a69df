// @ts-check
/**
 * The words of a pair in the page: its texts with marks, tokens in sentences, scores on a prompt.
 *
 * @import { Piece } from "./words.js"
 */
import { dataText, el } from "./dom.js";
import { t } from "./language.js";
import { count, signed } from "./numbers.js";
import { visible } from "./words.js";

const FULL_HEAT = 55; // per cent of the colour: text stays readable on it, in light and in dark
const FOLDED = 600; // letters of a text that is shown whole

/** A token within a sentence. @param {string | null} token */
export function quoted(token) {
  const text = visible(token ?? "").replaceAll(/[\t\r\n]/g, "");
  return el("bdi", { class: "quoted" }, "‘", dataText(text), "’");
}

/**
 * The text of a key, with elements in the place of names that `values` lacks.
 *
 * @param {string} key
 * @param {Record<string, Node>} nodes
 * @param {Record<string, string | number>} [values]
 * @returns {(string | Node)[]}
 */
export function sentence(key, nodes, values = {}) {
  const parts = t(key, values).split(/\{(\w+)\}/);
  return parts.map((part, index) => (index % 2 ? nodes[part] ?? part : part));
}

/** A number with its sign; empty without one. @param {number | null} value */
export function signedCell(value) {
  return value === null ? "" : signed(value);
}

/** A text whose command-line options stay whole. @param {string} text */
export function withOptions(text) {
  return text.split(/(--[a-z][a-z-]*(?:=[a-z0-9]+)?)/).map((part, index) =>
    index % 2 ? el("code", { class: "option" }, part) : part
  );
}

/** @param {Piece[]} pieces */
export function words(pieces) {
  const parts = pieces.map(({ text, mark }) => mark ? el("mark", {}, visible(text)) : text);
  const letters = pieces.reduce((sum, { text }) => sum + text.length, 0);
  return folded(el("p", { class: "words", dir: "auto" }, parts), letters);
}

/** A long text is folded until the reader opens it. @param {HTMLElement} text @param {number} letters */
function folded(text, letters) {
  if (letters <= FOLDED) {
    return text;
  }
  const button = el("button", { type: "button", "aria-expanded": "false", onclick: turn });
  const box = el("div", { class: "folded" }, text, button);
  function turn() {
    const open = box.classList.toggle("open");
    name(open);
  }
  /** @param {boolean} open */
  function name(open) {
    button.setAttribute("aria-expanded", String(open));
    button.textContent = t(open ? "pairs.fold" : "pairs.unfold", { n: count(letters) });
  }
  name(false);
  return box;
}

/**
 * The tokens of a prompt, coloured by a feature's scores. Promoting ones have a solid line under
 * them, suppressing ones a dotted one.
 *
 * @param {string[]} tokens
 * @param {[position: number, score: number][]} scores
 */
export function heatmap(tokens, scores) {
  const scoreAt = new Map(scores);
  const largest = scores.reduce((most, [, score]) => Math.max(most, Math.abs(score)), 0);
  const spans = tokens.map((token, position) => {
    const score = scoreAt.get(position) ?? 0;
    if (score === 0) {
      return el("span", { class: "token" }, visible(token));
    }
    const direction = score > 0 ? "promotes" : "suppresses";
    const span = el("span", { class: `token ${direction}`, title: signed(score) }, visible(token));
    span.style.setProperty("--heat", `${(FULL_HEAT * Math.abs(score) / largest).toFixed(1)}%`);
    return span;
  });
  return el("p", { class: "words heatmap", dir: "auto" }, spans);
}
