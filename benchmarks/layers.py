"""Compares the cost of SAEs on 1, 5 and all 30 layers of the demo's model in one pass.

Usage:
  layers.py [--width=N] [--rounds=N]
  layers.py --help

Options:
  --width=N   Features of each SAE, random TopK ones of k 32 [default: 2048].
  --rounds=N  [default: 5]

Each round scores the demo's input once with each set of SAEs, from reading to result files.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import demo
import torch
from docopt import docopt
from sae_lens import SAE

from atp.bench.measure import Contender, interleave, ratio
from atp.dataset.input_scan import scan_input
from atp.model.dictionaries.loading import Dictionary
from atp.model.dictionaries.placement import Dictionaries
from atp.run import setup
from atp.run.command import score
from atp.run.engine.in_process import InProcess
from atp.runtime.log import configure
from atp.runtime.signals import StopRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from atp.run.setup import Loaded

LAYERS = {
    "20": [20],
    "18 to 22": range(18, 23),
    "4, 10, 16, 22, 28": range(4, 29, 6),
    "all 30": range(demo.N_LAYERS),
}


def random_dictionary(layer: int, d_in: int, width: int) -> Dictionary:
    """Return a random SAE: its cost does not depend on its weights."""
    hook_name = f"blocks.{layer}.hook_resid_post"
    config: dict[str, Any] = {
        "architecture": "topk",
        "k": 32,
        "d_in": d_in,
        "d_sae": width,
        "dtype": "float32",
        "metadata": {"hook_name": hook_name},
    }
    sae = SAE.from_dict(config)
    torch.manual_seed(layer)
    for parameter in sae.parameters():
        torch.nn.init.normal_(parameter, std=d_in**-0.5)
        parameter.requires_grad_(requires_grad=False)
    return Dictionary("random", f"layer{layer}", hook_name, sae, {"sha256": str(layer)})


def contender(loaded: Loaded, layers: Sequence[int], width: int) -> Contender:
    """Return a run with SAEs on some layers."""
    d_in = int(loaded.model.bridge.cfg.d_model)
    dictionaries = Dictionaries(
        [random_dictionary(layer, d_in, width) for layer in layers], loaded.model.device
    )
    with_layers = replace(loaded, dictionaries=dictionaries)

    def run() -> None:
        with TemporaryDirectory() as folder:
            settings = demo.settings(out=Path(folder))
            scan = scan_input(settings.input)
            score(settings, scan, InProcess(with_layers, settings, scan), StopRequest())

    return Contender(f"layers {layers}", run, run)


def main() -> None:
    """Print a table."""
    arguments = docopt(__doc__)
    configure(run_id="layers")
    settings = demo.settings()
    loaded = setup.load(settings, setup.check(settings))
    width = int(arguments["--width"])
    sets = {name: contender(loaded, layers, width) for name, layers in LAYERS.items()}
    interleave(list(sets.values()), int(arguments["--rounds"]), loaded.model.device)
    print("| layers | s for all pairs | / layer 20 | peak GiB |\n| ---: | ---: | ---: | ---: |")
    for name, timed in sets.items():
        peak = (timed.peak_bytes or 0) / 2**30
        print(f"| {name} | {timed.median:.2f} | {ratio(timed, sets['20']):.3f} | {peak:.2f} |")


if __name__ == "__main__":
    main()
