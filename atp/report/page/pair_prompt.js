// @ts-check
/**
 * Where in the prompt a feature acts, for runs that read all positions.
 *
 * @import { Address } from "./overview.d.ts"
 * @import { Listed } from "./pair_blocks.js"
 */
import { replace } from "./address.js";
import { overview } from "./blocks.js";
import { el } from "./dom.js";
import { t } from "./language.js";
import { signed } from "./numbers.js";
import { positionsOf } from "./pair_blocks.js";
import { table } from "./table.js";
import { heatmap, quoted } from "./word_elements.js";

/**
 * @param {HTMLElement} root
 * @param {Address} address
 * @param {number} pair
 * @param {Listed[]} listed
 */
export async function pairPrompt(root, address, pair, listed) {
  const positions = await positionsOf(address.result, pair);
  if (positions === null) {
    return;
  }
  const { tokens, features } = positions;
  const { labels, name } = overview.results[address.result];
  const parameters = { ...address.parameters };
  const ids = listed.map(({ feature }) => String(feature)).filter((id) => id in features);
  const place = el("div");
  const options = ids.map((id) => {
    const text = labels[id] ? `${id} ${labels[id].slice(0, 60)}` : id;
    return el("option", { value: id, selected: id === parameters.feature }, text);
  });
  const select = el("select", { onchange: choose }, options);
  const chooser = el("label", {}, t("pairs.heatmap_feature"), " ", select);
  root.append(el("section", {}, el("h2", {}, t("pairs.heatmap")), chooser, place));
  show(select.value);

  function choose() {
    parameters.feature = select.value;
    replace({ ...address, parameters });
    show(select.value);
  }

  /** @param {string} feature */
  function show(feature) {
    const scores = (features[feature] ?? []).toSorted(([a], [b]) => a - b);
    if (scores.length === 0) {
      place.replaceChildren(el("p", {}, t("pairs.heatmap_none")));
      return;
    }
    const largest = scores.reduce(
      (most, [, score]) => (Math.abs(score) > Math.abs(most) ? score : most),
      0,
    );
    const { element } = table({
      name: `${name}-pair-${pair}-feature-${feature}`,
      caption: t("pairs.heatmap_caption", { feature }),
      rows: scores.length,
      columns: [
        {
          key: "position",
          title: t("pairs.position"),
          kind: "number",
          value: (row) => scores[row][0],
        },
        {
          key: "token",
          title: t("pairs.token"),
          kind: "text",
          value: (row) => tokens[scores[row][0]],
          cell: (row) => quoted(tokens[scores[row][0]]),
        },
        { key: "score", title: t("pairs.score"), kind: "number", value: (row) => scores[row][1] },
      ],
    });
    place.replaceChildren(
      el("p", {}, t("pairs.heatmap_intro", { feature, largest: signed(largest) })),
      heatmap(tokens, scores),
      el("details", {}, el("summary", {}, t("pairs.heatmap_table")), element),
    );
  }
}
