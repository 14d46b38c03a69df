"""Compares --attention=sdpa with eager on the demo's model: seconds and live bytes of a pass.

Usage:
  attention.py [--rounds=N]
  attention.py --help

Options:
  --rounds=N  [default: 5]
"""

from __future__ import annotations

from functools import partial

import torch
from demo import MODEL
from docopt import docopt
from live_bytes import LiveBytes

from atp import load_model
from atp.attribution.batches import Batch
from atp.attribution.capture import capture
from atp.attribution.contrasts import Contrast
from atp.bench.measure import Contender, interleave, ratio
from atp.runtime.log import configure

HOOK = "blocks.20.hook_resid_post"
RESPONSE = 5  # tokens from the prompt's last to the first difference


def main() -> None:
    """Print a table."""
    rounds = int(docopt(__doc__)["--rounds"])
    configure(run_id="attention")
    models = [load_model(MODEL, device="cpu", attention=kind) for kind in ("eager", "sdpa")]
    print(f"{torch.get_num_threads()} threads; one pass, forward and backward, over one text\n")
    print("| tokens | eager | sdpa | sdpa / eager | live MiB, eager | sdpa |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    for length in (120, 1000, 2000):
        ids = torch.randint(5, 40_000, (length,), generator=torch.Generator().manual_seed(0))
        contrast = Contrast(tuple(ids.tolist()), length - RESPONSE, 100, 200)
        contenders, peaks = [], []
        for model in models:
            run = partial(capture, model, Batch.of([contrast], model.device), [HOOK])
            contenders.append(Contender(str(model), run, run))
            with LiveBytes() as live:
                run()
            peaks.append(live.peak >> 20)
        eager, sdpa = contenders
        interleave(contenders, rounds, models[0].device)
        print(
            f"| {length:,} | {eager.median:.2f} s | {sdpa.median:.2f} s | {ratio(sdpa, eager):.2f} "
            f"| {peaks[0]} | {peaks[1]} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
