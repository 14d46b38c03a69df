"""The settings of a run, which check, fetch, bench and intervene share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atp.config import checks, sae_choice, shard
from atp.config.checks import whole_number
from atp.config.method import Method
from atp.config.option import REQUIRED, Group, json_values, option, switch
from atp.config.sae_choice import L0_SIZES, SITES, L0Size, Site

if TYPE_CHECKING:
    from atp.config.shard import Shard

WINDOW_PAIRS = 256  # that are read, sorted by length and batched together
NO_INPUT = Path()  # of a command that reads none, or takes that of a features file


@dataclass(frozen=True)
class Settings:
    """The settings of one run."""

    input: Path
    out: Path = option(Group.GENERAL, REQUIRED, "DIR", checks.path)
    """Folder of the results. Default: /data/results/feedback where /data/input exists, else
    ./results/feedback."""
    model: str = option(Group.READ, "google/gemma-2-9b-it", "NAME", checks.text)
    """Hub name, Hugging Face folder or GGUF file."""
    revision: str | None = option(Group.READ, None, "REV", checks.text)
    """Branch, tag or commit of a hub model. Default: its main branch."""
    sae: tuple[str, ...] = option(Group.DICTIONARIES, (), "SPEC", checks.words, repeatable=True)
    """RELEASE:SAE_ID of SAELens, or a folder in SAELens format. Repeat it for several SAEs, or give
    a pattern of *, ? and [..] in quotes: 'RELEASE:layer_*/width_16k/canonical' or './saes/layer*';
    a * ends at a slash. Default: the four options below choose. atp saes lists all."""
    hook_layer: tuple[int, ...] = option(Group.DICTIONARIES, (), "LIST", checks.layers)
    """Layers whose SAE to use, as in 9,20,31. Default: one for each model, as
    31 for Gemma-2-9b-it."""
    sae_width: int | None = option(Group.DICTIONARIES, None, "N", sae_choice.sae_width)
    """Features of that SAE, as in 16384 or 131k. Default: the fewest that the release has."""
    sae_l0: L0Size | None = option(Group.DICTIONARIES, None, "NAME", checks.OneOf(L0_SIZES))
    """How many features of that SAE are active at a token: small, medium or big, among the SAEs of
    its layer and width. Default: medium, else small."""
    sae_site: Site | None = option(Group.DICTIONARIES, None, "NAME", checks.OneOf(SITES))
    """What that SAE reads: resid, the residual stream; mlp or attn, an output; transcoder, the
    input of an MLP; or clt, a layer of a cross-layer transcoder. Default: the first that the model
    has."""
    max_tokens_to_check: int = option(Group.CONTRAST, 20, "N", whole_number(1))
    """Tokens of the two responses to compare."""
    top_k: int = option(Group.SCORE, 50, "N", whole_number(1))
    """Features to list for each pair, by |score|."""
    scoring: Method = Method()
    chat_template: bool = switch(Group.CONTRAST)
    """Put prompts through the tokenizer's chat template. Default: raw text."""
    allow_other_model: bool = switch(Group.DICTIONARIES)
    """Accept an SAE that was trained on a model of another name."""
    model_dtype: str | None = option(Group.RUN, None, "NAME", checks.OneOf(("bfloat16", "float32")))
    """bfloat16 or float32; float16 overflows in Gemma. Default: float32 on a CPU, else bfloat16."""
    attention: str = option(Group.RUN, "eager", "KIND", checks.OneOf(("eager", "sdpa")))
    """How to compute attention: eager, or sdpa, the kernel of torch, which takes less memory on
    long texts. Scores differ by rounding."""
    device: str | None = option(Group.RUN, None, "NAME", checks.device)
    """cpu, cuda or cuda:N. Default: cuda where there is a GPU, else cpu."""
    device_map: str | None = option(Group.RUN, None, "KIND", checks.OneOf(("auto",)))
    """auto splits a model that is larger than one GPU over all that the process sees
    (CUDA_VISIBLE_DEVICES chooses them). Default: one device."""
    batch_tokens: int | None = option(Group.RUN, None, "N", whole_number(1))
    """Most tokens in a pass, padding included. Default: as many as surely fit into the free memory,
    at most 2048 on a CPU and 16384 on a GPU."""
    save_interval: int = option(Group.SAVE, 10, "N", whole_number(1))
    """Save results every N pairs, once their batch is done; less often where saving would take more
    than 5 % of the time."""
    limit: int | None = option(Group.READ, None, "N", whole_number(1))
    """Score the first N pairs only. Default: all."""
    shard: Shard | None = option(Group.SAVE, None, "I/N", shard.parse)
    """Score part I of N of the input, counted from 0. All parts need the same --batch-tokens, and
    each its own --out. Then run atp merge."""
    fresh: bool = switch(Group.RUN)
    """Start anew instead of resuming an earlier run. Of fetch: compare the hashes of all files
    again."""
    rounds: int = option(Group.BENCH, 3, "N", whole_number(1))
    """How often to time each procedure."""
    json: bool = switch(Group.CHECK)
    """Print one JSON object instead of text."""

    @property
    def tail(self) -> int | None:
        """About how many tokens at the end of a text carry gradients; None for all of it."""
        if self.scoring.position == "all":
            return None
        return max(20, self.scoring.sequence or 0)  # metric "first": as far as it compares

    def deciding_numbers(self) -> dict[str, Any]:
        """Return the settings that change a score, as JSON values."""
        names = ("max_tokens_to_check", "top_k", "chat_template", "limit", "shard")
        values = self.as_json()
        return {name: values[name] for name in names}

    def as_json(self) -> dict[str, Any]:
        """Return every setting of a run as JSON values, for `metadata.atp`."""
        values = json_values(self, "run")
        if self.device_map is None:  # younger than many results, whose bytes it must not change
            del values["device_map"]
        return {"input": str(self.input), **values}
