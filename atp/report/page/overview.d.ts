/** The types of the page's data, as `atp/report/contents.py` writes them. */

export interface Overview {
  version: string;
  created: string;
  texts: Record<string, Record<string, string>>;
  charts: Record<string, Record<string, ChartSpecification>>;
  results: Result[];
  interventions: Intervention[];
  compare: { a: number; b: number }[];
}

export interface Result {
  name: string;
  file: string;
  model: string;
  sae: Record<string, unknown>;
  metric: string;
  counts: Record<string, number>;
  means: Record<string, number>;
  reasons: [kind: string, reason: string, count: number][];
  settings: Record<string, unknown>;
  facts: Record<string, unknown>;
  answer: Record<string, string[]>;
  strongest: Strongest[];
  selection: Selection | null;
  groups: Group[];
  labels: Record<string, string>;
  link: string | null;
  texts: { of: number; first: number[] };
  positions: { first: number[] } | null;
  blocks: string[];
}

export interface Strongest {
  feature: string;
  label: string | null;
  mean_best: number;
  mean_best_low: number | null;
  mean_best_high: number | null;
  direction: "promotes" | "suppresses";
}

export interface Selection {
  steps: { threshold: string; took: number; left: number }[];
  selected: string[];
  settings: Record<string, unknown>;
}

export interface Group {
  group: string;
  value: string | null;
  pairs: number;
  questions: number;
}

export interface Intervention {
  file: string;
  comparison: boolean;
  cautions: string[];
  [key: string]: unknown; // the rest of the report, as docs/intervene.md describes it
}

/** A Vega-Lite specification, as far as this page looks into it. */
export interface ChartSpecification {
  description?: string;
  params?: { name: string; value?: unknown }[];
  datasets?: Record<string, unknown>;
  [key: string]: unknown;
}

export type Column = Float64Array | Float32Array | Uint32Array | Uint16Array | Uint8Array;

/** A table block. A name is in `columns`, and in `values` too if the column holds texts. */
export interface TableBlock {
  rows: number;
  columns: Record<string, Column>;
  values: Record<string, (string | null)[]>;
  header: Record<string, unknown>;
}

/** A place in the page; `location.hash` holds it. */
export interface Address {
  view: string;
  result: number;
  id: string | null;
  parameters: Record<string, string>;
}
