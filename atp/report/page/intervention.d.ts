/** The reports of `atp intervene`, as far as the page reads them; docs/intervene.md describes them. */

export type Limits = [low: number, high: number] | null;

export interface Experiment {
  file: string;
  cautions: string[];
  summary: {
    pairs: number;
    questions: number;
    skipped: number;
    errors: number;
    features: number;
    mean_before: number;
    verdict: string;
    selected: Changes;
    random: (Changes & Controls) | null;
    negative: Changes | null;
  };
  metadata: {
    atp: {
      settings: { strength: number; spare_first: boolean };
      input: { sha256: string };
      features: { saes: RemovedFeatures[] };
    };
  };
  answers: { answered: number; changed: number } | null;
}

export interface Changes {
  mean_after: number;
  mean_change: number;
  interval: Limits;
  flips: number;
  side_effects: SideEffects | null;
}

export interface Controls {
  sets: number;
  difference: number;
  difference_interval: Limits;
  p_random: number;
}

export interface SideEffects {
  kl_per_token: number;
  perplexity_before: number;
  perplexity_after: number;
}

export interface RemovedFeatures {
  sae: { spec: string; sha256: string };
  selected: string[];
  joint: {
    mean_effect: number;
    effect_interval: Limits;
    mean_sum_of_single: number;
    sum_of_single_interval: Limits;
  } | null;
}

export interface Comparison {
  file: string;
  overall: FlagRates;
  by_template_type: Record<string, FlagRates>;
}

export interface FlagRates {
  prompts: number;
  flagged_in_both: number;
  flagged_before_only: number;
  flagged_after_only: number;
  flagged_in_neither: number;
  rate_before: number;
  rate_after: number;
  difference: number;
  interval: Limits;
  interval_clustered: Limits;
  mcnemar_p: number;
}
