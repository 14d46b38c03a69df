"""Makes the models and SAEs on which, beside the demo's, trust in scores is measured.

Usage:
  held_out.py [--text=DIR]
  held_out.py --help

Options:
  --text=DIR  the text that the demo's SAE was trained on (examples/smollm2/README.md)
              [default: text]

Written to .cache/held-out; what is there is not made again:

  gemma-3-270m                   Gemma 3 270M (base), by gemma3.py
  gemma-3-270m-layer12           a TopK SAE of it: after layer 12 of 18, 2,048 features, k = 32
  SmolLM2-135M-Instruct-layer10  a JumpReLU SAE of the demo's model: after layer 10 of 30, 2,048
                                 features, trained as BatchTopK with k = 48 on average

Takes half an hour on two cores. Gemma is under the Gemma Terms of Use: nothing made of it is part
of this repository.
"""

from __future__ import annotations

import sys

import demo
import gemma3
from docopt import docopt

sys.path.insert(0, str(demo.EXAMPLE))
import get_model
import train_sae

FOLDER = gemma3.FOLDER
GEMMA = gemma3.MODEL
GEMMA_SAE = FOLDER / "gemma-3-270m-layer12"
OTHER_SAE = FOLDER / "SmolLM2-135M-Instruct-layer10"

TRAINING = ("--vectors=200000", "--steps=2000")


def main() -> None:
    """Make what is not there."""
    text = docopt(__doc__)["--text"]
    get_model.main(demo.MODEL)
    gemma3.main()
    if not GEMMA_SAE.exists():
        name = "--name=google/gemma-3-270m"
        train_sae.main([str(GEMMA), text, str(GEMMA_SAE), "--layer=12", name, *TRAINING])
    if not OTHER_SAE.exists():
        how = ("--layer=10", "--kind=batchtopk", "--k=48", *TRAINING)
        train_sae.main([str(demo.MODEL), text, str(OTHER_SAE), *how])


if __name__ == "__main__":
    main()
