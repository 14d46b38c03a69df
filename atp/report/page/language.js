// @ts-check
/** The interface's texts in the reader's language. */
import { overview } from "./blocks.js";
import { recall, remember } from "./memory.js";

let current = initialLanguage();

function initialLanguage() {
  const wanted = [recall("language"), ...navigator.languages.map((name) => name.slice(0, 2))];
  return wanted.find((name) => name !== null && name in overview.texts) ?? "en";
}

/** @returns {string} "en" or "ja" */
export function language() {
  return current;
}

/** Writes the frame's texts in that language; main.js draws the view anew. @param {string} name */
export function setLanguage(name) {
  current = name;
  remember("language", name);
  document.documentElement.lang = name;
  for (const element of document.querySelectorAll("[data-t]")) {
    element.textContent = t(element.getAttribute("data-t") ?? "");
  }
  for (const element of document.querySelectorAll("[data-t-label]")) {
    element.setAttribute("aria-label", t(element.getAttribute("data-t-label") ?? ""));
  }
}

/**
 * The text of a key. Values stand where the text has their name in braces.
 *
 * @param {string} key
 * @param {Record<string, string | number>} [values]
 */
export function t(key, values = {}) {
  const text = overview.texts[current]?.[key] ?? overview.texts.en?.[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole));
}

/** @param {string} key */
export function hasText(key) {
  return key in (overview.texts.en ?? {});
}
