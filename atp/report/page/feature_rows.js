// @ts-check
/**
 * The features of a result by number: their columns, labels and links.
 *
 * @import { TableBlock } from "./overview.d.ts"
 */
import { format } from "./address.js";
import { decoded, overview } from "./blocks.js";
import { el } from "./dom.js";
import { hasText, t } from "./language.js";

/** @param {number} result @returns {Promise<TableBlock>} a row for each feature, over all pairs */
export function featuresOf(result) {
  return decoded(`r${result}-features`);
}

/** @param {TableBlock} features @param {string} name */
export function hasNumbers(features, name) {
  return features.columns[name]?.some((value) => !Number.isNaN(value)) ?? false;
}

/** @param {number} result @param {number | string} feature @returns {string | null} */
export function labelOf(result, feature) {
  return overview.results[result].labels[feature] ?? null;
}

/** @param {number} result @param {number | string} feature */
export function addressOf(result, feature) {
  return format({ view: "feature", result, id: String(feature) });
}

/** @param {number} result @param {number | string} feature */
export function featureLink(result, feature) {
  return el("a", { href: addressOf(result, feature) }, String(feature));
}

/** @param {number} result @param {number | string} feature @returns {string | null} */
export function pageOnNeuronpedia(result, feature) {
  return overview.results[result].link?.replace("{feature}", String(feature)) ?? null;
}

/** A link that leaves the report. @param {string} address @param {string} text */
export function outwardLink(address, text) {
  return el("a", { href: address, rel: "noopener noreferrer", target: "_blank" }, text);
}

/** The title of a column, by its name in the file. @param {string} name */
export function columnTitle(name) {
  return hasText(`features.c_${name}`) ? t(`features.c_${name}`) : name;
}

/** @param {string} name */
export function columnMeaning(name) {
  return hasText(`features.d_${name}`) ? t(`features.d_${name}`) : "";
}
