// @ts-check
/** Makes elements. Texts become text nodes: data is never read as HTML. */

/**
 * @typedef {Node | string | number | null | undefined | false} Child
 */

/**
 * Attributes: functions are listeners (`onclick`), true is an empty attribute, null and false none.
 *
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, string | number | boolean | null | undefined | ((event: any) => void)>} [attributes]
 * @param {...(Child | Child[])} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") {
      element.addEventListener(name.replace(/^on/, ""), value);
    } else if (value !== null && value !== undefined && value !== false) {
      element.setAttribute(name, value === true ? "" : String(value));
    }
  }
  for (const child of children.flat()) {
    if (child !== null && child !== undefined && child !== false) {
      element.append(typeof child === "number" ? String(child) : child);
    }
  }
  return element;
}

/**
 * Text from the data: its direction is its own, and it wraps anywhere.
 *
 * @param {string} text
 */
export function dataText(text) {
  return el("bdi", { class: "data" }, text);
}
