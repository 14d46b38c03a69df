// @ts-check
/** Hands text to the clipboard or to a file. A page from the disk may do less than one from a server. */
import { el } from "./dom.js";

/** @param {string} text @returns {Promise<boolean>} whether the clipboard has it */
export async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copiedBySelection(text); // no clipboard API on file://
  }
}

/** @param {string} text */
function copiedBySelection(text) {
  const before = document.activeElement;
  const area = el("textarea", { class: "off-screen", "aria-hidden": "true", tabindex: -1 });
  area.value = text;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  if (before instanceof HTMLElement) {
    before.focus({ preventScroll: true });
  }
  return done;
}

/** @param {string} name of the file @param {string} text */
export function save(name, text) {
  const address = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
  el("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}
