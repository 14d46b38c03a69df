"""Compares a pass over whole texts with prefixes, a cache and a tail, on the demo's model.

Usage:
  whole_texts.py [--rounds=N] [--limit=N]
  whole_texts.py --help

Options:
  --rounds=N  [default: 5]
  --limit=N   Pairs of the demo's input [default: 24].

The demo's model keeps keys and values alone; it is made to run as a model that keeps more (Qwen3.5,
Mamba) must. The measure of both is a bare forward pass over the same texts, in the same batches.
"""

from __future__ import annotations

from dataclasses import fields, replace

import demo
import torch
from docopt import docopt
from layers import random_dictionary

from atp.bench.contenders import contenders, load_plain_model, workload
from atp.bench.measure import interleave, ratio
from atp.model.dictionaries.placement import Dictionaries
from atp.model.language_model import Model
from atp.run import setup
from atp.runtime.log import configure

BATCH_TOKENS = 2048


class WholeTexts(Model):
    """A model that runs whole texts, whatever its layers keep."""

    keeps_all_keys = False  # type: ignore[assignment]  # a property of Model


def main() -> None:
    """Print a table."""
    arguments = docopt(__doc__)
    configure(run_id="whole_texts")
    settings = demo.settings(limit=int(arguments["--limit"]))
    loaded = setup.load(settings, setup.check(settings))
    model = loaded.model
    whole_texts = WholeTexts(**{each.name: getattr(model, each.name) for each in fields(Model)})
    plain = load_plain_model(model, settings.model, settings.revision)
    print(f"{torch.get_num_threads()} threads; seconds for all pairs, and ratios\n")
    print("| SAE after layer | whole texts | cached | bare | whole / bare | whole / cached |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    for layer in (20, 10, 0):
        sae = random_dictionary(layer, int(model.bridge.cfg.d_model), 64)
        with_sae = replace(loaded, dictionaries=Dictionaries([sae], model.device))
        sets = []
        for other in (with_sae, replace(with_sae, model=whole_texts)):
            work = workload(settings, other, BATCH_TOKENS)
            sets.append({each.name: each for each in contenders(settings, other, plain, work)})
        cached, whole, bare = sets[0]["passes"], sets[1]["passes"], sets[1]["bare"]
        interleave([cached, whole, bare], int(arguments["--rounds"]), model.device)
        seconds = " | ".join(f"{each.median:.2f}" for each in (whole, cached, bare))
        ratios = f"{ratio(whole, bare):.2f} | {ratio(whole, cached):.2f}"
        print(f"| {layer} | {seconds} | {ratios} |", flush=True)


if __name__ == "__main__":
    main()
