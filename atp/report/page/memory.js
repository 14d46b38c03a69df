// @ts-check
/** What the browser keeps for the next visit: language and colours. Some browsers keep nothing. */

/** @param {string} name @returns {string | null} */
export function recall(name) {
  try {
    return localStorage.getItem(`atp.${name}`);
  } catch {
    return null; // storage is switched off, or the file is opened from a mail
  }
}

/** @param {string} name @param {string} value */
export function remember(name, value) {
  try {
    localStorage.setItem(`atp.${name}`, value);
  } catch {
    // The choice then holds until the page is closed.
  }
}
