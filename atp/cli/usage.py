"""What `atp --help` prints; README.md has a copy."""

USAGE = """atp - which features of a language model make it sycophantic

Usage:
  atp run [INPUT] [options] [--sae=SPEC]...
  atp check [INPUT] [options] [--sae=SPEC]...
  atp fetch [options] [--sae=SPEC]...
  atp bench [INPUT] [options] [--sae=SPEC]...
  atp merge RESULT... [options]
  atp features RESULT... [options]
  atp intervene [INPUT] [options] [--sae=SPEC]...
  atp intervene --compare BEFORE AFTER [options]
  atp --help
  atp --version

Commands:
  run  Score every pair of INPUT (JSON or JSON Lines) by attribution patching and write the
       result file. INPUT defaults to the newest *.json or *.jsonl under /data/input.
       Started again with the same input and settings, it goes on where it stopped.
  check  Look at INPUT, names, caches, disk and device before that run, and say all that is wrong,
       what the run would find, and about how much memory, disk and time it takes. Computes
       nothing on a GPU.
  fetch  Bring the model and the SAEs of that run into the hub cache, compare their hashes, and
       record them. Started again, it goes on where it stopped. The run then needs no network,
       and stays on what was fetched until the next fetch.
  bench  Time that run on INPUT, side by side with the notebook's procedure and with a bare forward
       pass over the same tokens, and print a table. Takes several minutes. Scores are by the
       defaults: it takes no other --method, --baseline, --position or --metric, and no --exact.
  merge  Put the results of all shards of a run together, into the result of the whole run. RESULT
       is a shard's result file, or a folder that holds them, itself or in its folders. Of the
       options, it takes --out.
  features  Aggregate the scored pairs of one or more results of a model, select features of each
       SAE, and write a table as CSV and Parquet, and the selection as JSON. RESULT is a result
       file, or a folder, whose last run is taken.

What to read:
  --model=NAME               Hub name, Hugging Face folder or GGUF file (default
                             google/gemma-2-9b-it).
  --revision=REV             Branch, tag or commit of a hub model (default: its main branch).
  --sae=SPEC                 RELEASE:SAE_ID of SAELens, or a folder in SAELens format; repeat it
                             for several SAEs, or give a pattern of *, ? and [..] in quotes:
                             'RELEASE:layer_*/width_16k/canonical' or './saes/layer*'; a * ends at
                             a slash. Overrides --hook-layer and --sae-width.
  --hook-layer=LIST          Layers whose canonical Gemma Scope SAE to use, as in 9,20,31
                             (default 31).
  --sae-width=N              Features of that SAE, as in 16384 or 131k (default 16384).
  --allow-other-model        Accept an SAE that was trained on a model of another name.

What to compute:
  --max-tokens-to-check=N    Tokens of the two answers to compare (default 20).
  --top-k=N                  Features to list for each pair, by |score| (default 50).
  --chat-template            Put prompts through the tokenizer's chat template (default: raw text).
  --metric=NAME              What tells the answers apart: first, the logits of the first tokens
                             that differ; or sequence, the mean log-probabilities of their first
                             tokens (default first).
  --sequence-tokens=N        Of --metric=sequence: how many tokens; up to the first difference where
                             that comes later (default 20).
  --method=NAME              atp, attribution patching; or ig, integrated gradients (default
                             atp).
  --ig-steps=N               Of --method=ig: steps on the way from the baseline (default 10).
  --baseline=NAME            What activations are compared with: zero; mean, their mean over the
                             base prompts of INPUT; or base, what they are on the question's own
                             base prompt (default zero).
  --position=NAME            Where features are read: at the last token of the prompt; in the tail,
                             from there to the first difference; or at all tokens of the prompt;
                             more than one are summed up (default last).
  --exact                    Also remove each listed feature in turn, run the model without it, and
                             tell its effect, and how well scores agree with effects.
  --prompt-activations       Also tell which features are active on the flagged prompt and on the
                             base prompt.
  --limit=N                  Score the first N pairs only (default: all).

How to run:
  --shard=I/N                Do part I of N of the input, counted from 0; needs --batch-tokens, the
                             same for all parts, and its own --out. Afterwards: atp merge.
  --out=DIR                  Folder of the results (default /data/results/feedback where /data/input
                             exists, ./results/feedback elsewhere).
  --device=NAME              cpu, cuda or cuda:N (default: cuda where there is one, else cpu).
  --model-dtype=NAME         bfloat16 or float32 (default bfloat16, float32 on a cpu).
  --batch-tokens=N           Most tokens in a pass, padding included (default: what the free memory
                             surely holds, at most 2048 on a cpu, 16384 on cuda).
  --save-interval=N          Save results every N pairs, once their batch is done (default 10).
  --fresh                    Do not go on with an earlier run, start anew. Of fetch: compare the
                             hashes of files again that an earlier fetch has compared.
  --json                     Of check: print one JSON object instead of text.
  --rounds=N                 Of bench: how often to time each procedure (default 3).

How to draw at random (atp features, atp intervene):
  --seed=N                   Of resamples, control sets and sampled answers (default 0).

Which features to select (atp features):
  --min-score=X              The mean score over all pairs must be above X logits (default 0).
  --min-log-ratio=X          log10 of the mean activation on flagged prompts, over that on base
                             prompts, must be above X, or none: do not ask (default 0.5). Needs
                             results of atp run --prompt-activations.
  --min-impact=X             The size of the mean effect, or of the mean score where the results
                             carry no effects, must be X logits or more (default 0).
  --fdr=Q                    Of the features whose mean score differs from 0, take those with a
                             false discovery rate of Q, as in 0.05, or none (default none).
  --top-features=K           Take the K of greatest mean score of what is left (default 50).
  --epsilon=X                Added to both activations of that ratio (default 1e-6).
  --resamples=N              Of the 95 % intervals and the p-values (default 9999).

What to intervene on (atp intervene):
  --features=FILE            What atp features wrote: the selected features of each SAE.
  --strength=X               The share of what they write that is taken out (default 1: all of it).
  --spare-first              Leave the first position of a text alone (default: all are ablated).
  --controls=N               Random sets of features to compare with (default 20).
  --regenerate               Write answers anew, with and without the features.
  --max-new-tokens=N         Where such an answer is cut off (default 128).
  --temperature=X            Of such answers (default 0: greedy).
  --compare                  Compare two labelled files, BEFORE and AFTER.

  -h --help                  Show this text.
  --version                  Show the version.

Every option can come from the environment: --top-k=10 is ATP_TOP_K=10; the command line wins.
Result paths, and those of fetch's records, go to stdout, logs to stderr.

Exit codes: 0 every pair has a result (skipped pairs included); 1 some pairs carry an error;
2 usage, settings or input at fault; 3 model, SAE or device cannot be had; 74 results cannot be
written; 75 another run holds the output folder; 130, 143 stopped by a signal; 70 a fault of
atp itself. Of check: 0 nothing is wrong; 2 as above; 3 as above, or too little memory or disk. Of
fetch: 0 all is there; 2 as above; 3 something cannot be had, or too little disk; 74 the cache
cannot be written. Of merge: as of run; 2 also where a shard is missing, not complete, or of
another run. Of features: 0 the tables are written; 2 also where no feature is selected, and
where results do not go together. Of intervene: as of run; 2 also where the features are of
another model or SAE.
"""
