// @ts-check
/**
 * The address of a view, `#/r0/feature/515?sort=-score`, so that a link opens it.
 *
 * @import { Address } from "./overview.d.ts"
 */

export const OF_ALL_RESULTS = new Set(["intervention", "compare", "about"]);

/** @param {string} hash `location.hash` @returns {Address} */
export function parse(hash) {
  const [path, query = ""] = split(hash.replace(/^#/, ""), "?");
  const parts = path.split("/").filter((part) => part !== "").map(readable);
  const numbered = /^r(\d+)$/.exec(parts[0] ?? "");
  if (numbered) {
    parts.shift();
  }
  return {
    view: parts[0] ?? "answer",
    result: numbered ? Number(numbered[1]) : 0,
    id: parts[1] ?? null,
    parameters: Object.fromEntries(new URLSearchParams(query)),
  };
}

/** @param {Partial<Address>} address @returns {string} */
export function format({ view = "answer", result = 0, id = null, parameters = {} }) {
  const parts = OF_ALL_RESULTS.has(view) ? [view] : [`r${result}`, view];
  if (id !== null) {
    parts.push(encodeURIComponent(id));
  }
  const path = view === "answer" ? (result === 0 ? "" : `r${result}`) : parts.join("/");
  const given = Object.entries(parameters).filter(([, value]) => value !== "");
  const query = new URLSearchParams(given).toString();
  return `#/${path}${query && "?"}${query}`;
}

/** Opens a view. @param {Partial<Address>} address */
export function go(address) {
  location.hash = format(address);
}

const QUIET_MS = 300; // browsers refuse more than about 100 changes in 30 s
/** @type {ReturnType<typeof setTimeout> | undefined} */
let waiting;

/**
 * Writes the state of the open view into its address, once it stays for a moment; the history gets
 * no new entry.
 *
 * @param {Partial<Address>} address
 */
export function replace(address) {
  const open = location.hash;
  clearTimeout(waiting);
  waiting = setTimeout(() => {
    if (location.hash === open) { // else the reader has left
      history.replaceState(history.state, "", format(address));
    }
  }, QUIET_MS);
}

/** @param {string} text @param {string} mark @returns {[string, string?]} */
function split(text, mark) {
  const at = text.indexOf(mark);
  return at < 0 ? [text] : [text.slice(0, at), text.slice(at + mark.length)];
}

/** @param {string} part */
function readable(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part; // a link that was cut within an escape
  }
}
