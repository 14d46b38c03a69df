"""Measures `atp rescore` beside a run with the same SAE of 16k features, on the demo's model.

Usage:
  rescore.py [--copies=N] [--repeat=N]
  rescore.py --help

Options:
  --copies=N  Copies of the demo's pairs. [default: 8]
  --repeat=N  How often to rescore; the median counts. [default: 5]

One run keeps the vectors, with the demo's SAE; then the SAE of 16k features, whose weights are
random, is scored from these vectors, and by a run. Each command is a process of its own, timed from
the end of loading to its end.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import demo
import torch
from docopt import docopt
from sae_lens import SAE

from atp.vectors.reader import Vectors

D_SAE, ACTIVE = 2**14, 64
TIMES = (b'"started":', b'"finished":')


def run(*words: str | Path) -> dict[str, float | list[str]]:
    """Run a command of atp, and return the fields of its last line."""
    done = subprocess.run([sys.executable, "-m", "atp", *words], capture_output=True, check=False)
    lines = done.stderr.splitlines()
    if done.returncode:
        sys.exit(lines[-1].decode())
    fields: dict[str, float | list[str]] = json.loads(lines[-1])
    return fields


@torch.no_grad()
def save_random_sae(folder: Path, vectors: Vectors) -> None:
    """Save an SAE of random directions at the demo's hook point, with a few active features."""
    with (demo.SAE / "cfg.json").open(encoding="utf-8") as file:
        metadata = json.load(file)["metadata"]
    name = metadata["hook_name"]
    part = next(vectors.parts(lambda _: True))
    x = torch.cat([keyed.batch.captured.residuals[name] for keyed in part.batches])
    config = {"architecture": "jumprelu", "d_in": x.shape[1], "d_sae": D_SAE}
    sae = SAE.from_dict({**config, "dtype": "float32", "device": "cpu", "metadata": metadata})
    directions = torch.randn(D_SAE, x.shape[1], generator=torch.Generator().manual_seed(0))
    sae.W_dec.copy_(directions / directions.norm(dim=1, keepdim=True))
    sae.W_enc.copy_(sae.W_dec.T)
    sae.b_dec.copy_(x.mean(dim=0))
    before = (x - sae.b_dec) @ sae.W_enc
    sae.threshold.fill_(float(before.topk(ACTIVE, dim=1).values[:, -1].median()))
    sae.save_model(folder)


def without_times(path: Path) -> bytes:
    """Return a result without its times and its folder."""
    lines = (line for line in path.read_bytes().splitlines() if not line.strip().startswith(TIMES))
    return b"\n".join(lines).replace(str(path.parent).encode(), b"FOLDER")


def main() -> None:
    """Print a table."""
    arguments = docopt(__doc__)
    with TemporaryDirectory() as name:
        folder = Path(name)
        source, kept, sae = folder / "copies.json", folder / "kept", folder / "sae"
        demo.write_copies(source, int(arguments["--copies"]))
        model = (f"--model={demo.MODEL}", "--chat-template", "--device=cpu")
        rows = [
            ("run, demo's SAE", run("run", source, f"--out={kept}", *model, f"--sae={demo.SAE}"))
        ]
        with_vectors = folder / "vectors"
        words = (f"--out={with_vectors}", *model, f"--sae={demo.SAE}", "--save-vectors=float32")
        rows.append(("the same, --save-vectors=float32", run("run", source, *words)))
        vectors = Vectors.open(with_vectors)
        save_random_sae(sae, vectors)
        rescored = [
            run("rescore", with_vectors, f"--sae={sae}", f"--out={folder / f'rescored-{number}'}")
            for number in range(int(arguments["--repeat"]))
        ]
        rescored.sort(key=lambda done: done["seconds"])
        rows.append(("rescore, 16k", rescored[len(rescored) // 2]))
        rows.append(
            ("run, 16k", run("run", source, f"--out={folder / 'run'}", *model, f"--sae={sae}"))
        )
        print("| command | pairs | s after loading | pairs/s |\n| --- | ---: | ---: | ---: |")
        for title, done in rows:
            speed = done["pairs"] / done["seconds"]
            print(f"| {title} | {done['pairs']} | {done['seconds']:.1f} | {speed:.1f} |")
        results = [Path(done["results"][0]) for _, done in rows[2:]]
        same = len(set(map(without_times, results))) == 1
        size = sum(entry.size for entry in vectors.index.parts.values())
        print(f"\nthe same bytes, times apart: {'yes' if same else 'no'}")
        print(f"vectors: {size / rows[1][1]['pairs']:,.0f} bytes a pair")


if __name__ == "__main__":
    main()
