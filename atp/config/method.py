"""Method: how features are scored, beyond the defaults: by which gradient, against what, where.

No tensors here: settings are turned into it at the edge, results state it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from atp.errors import InputError, SettingsError

if TYPE_CHECKING:
    from pathlib import Path

    from atp.attribution.contrasts import Position

MethodName = Literal["atp", "ig"]
Baseline = Literal["zero", "mean", "base"]
NAMES = {"atp": "attribution patching", "ig": "integrated gradients"}


@dataclass(frozen=True)
class Method:
    """How a pair is scored."""

    name: MethodName = "atp"
    """By the gradient where the model is, or by its mean on the way to the baseline."""
    ig_steps: int = 10
    baseline: Baseline = "zero"
    """What a feature's activation is compared with: nothing, its mean over the base prompts of the
    input, or what it is on the base prompt of the question."""
    position: Position = "last"
    """Where features are read: see attribution/batches.py."""
    exact: bool = False
    """Whether each listed feature is removed in turn, to see what the metric does."""
    prompt_activations: bool = False
    """Whether to tell which features are active on the flagged and on the base prompt."""

    @property
    def needs_patched_runs(self) -> bool:
        """Whether pairs are run again from a hook point on."""
        return self.exact or self.name == "ig"

    @property
    def reads_base_prompts(self) -> bool:
        """Whether the base prompts are run, too."""
        return self.baseline != "zero" or self.prompt_activations

    def check(self, *, has_base_prompts: bool = True) -> None:
        """Refuse what does not go together.

        Raises:
            SettingsError: says what, and what to change.
        """
        if self.baseline != "zero" and self.position != "last":
            msg = f"--baseline={self.baseline} compares the last tokens of prompts, "
            msg += f"--position={self.position} asks for others."
            raise SettingsError(msg, "Use --position=last, or --baseline=zero.")
        if self.baseline != "zero" and not has_base_prompts:
            msg = f"the baseline {self.baseline!r} needs base_prompts."
            raise SettingsError(msg, "Give the neutral prompt of each pair.")

    def describe(self, sequence_tokens: int | None) -> dict[str, Any]:
        """Return what `metadata.atp.method` says.

        Args:
            sequence_tokens: how many tokens of the answers are contrasted; None for the first
                differing ones.
        """
        return {
            "name": NAMES[self.name],
            **({"steps": self.ig_steps} if self.name == "ig" else {}),
            "baseline": self.baseline,
            "position": self.position,
            "metric": "first" if sequence_tokens is None else "sequence",
            **({} if sequence_tokens is None else {"sequence_tokens": sequence_tokens}),
            "exact": self.exact,
            "prompt_activations": self.prompt_activations,
        }


def no_mean(path: Path) -> InputError:
    """Return the error of an input of which no base prompt can be read, to take a mean of."""
    msg = f"--baseline=mean: {path} holds no base prompt that can be read."
    return InputError(msg, "Mend the prompts of the base variations, or use --baseline=zero.")
