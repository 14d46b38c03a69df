"""How a pair is contrasted and its features are scored; results state it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from atp.attribution.contrasts import Position
from atp.config.checks import OFF, ON, OneOf, number, whole_number
from atp.config.option import Group, option, switch
from atp.errors import InputError, SettingsError

if TYPE_CHECKING:
    from pathlib import Path

MethodName = Literal["atp", "ig"]
Baseline = Literal["zero", "mean", "base"]
Metric = Literal["first", "sequence"]
Exact = Literal["none", "flagged", "all"]
COMPLETE_GAP = 0.05
"""Integrated gradients are called complete if their sum misses the change by at most this share."""
NAMES = {"atp": "attribution patching", "ig": "integrated gradients"}

_exact = OneOf(get_args(Exact), synonyms={**dict.fromkeys(ON, "all"), **dict.fromkeys(OFF, "none")})


@dataclass(frozen=True)
class Method:
    """How a pair is contrasted and its features are scored."""

    name: MethodName = option(
        Group.SCORE, "atp", "NAME", OneOf(get_args(MethodName)), name="method"
    )
    """atp, attribution patching; or ig, integrated gradients."""
    ig_steps: int = option(Group.SCORE, 10, "N", whole_number(1))
    """Steps that --method=ig takes from the baseline to the activations."""
    baseline: Baseline = option(Group.SCORE, "zero", "NAME", OneOf(get_args(Baseline)))
    """Activations are compared with this: zero; mean, their mean over the base prompts of INPUT; or
    base, their values on the question's own base prompt."""
    position: Position = option(Group.SCORE, "last", "NAME", OneOf(get_args(Position)))
    """Features are read here: last, at the last token of the prompt; tail, from there to the first
    difference; or all, at every token of the prompt. Several positions are summed."""
    metric: Metric = option(Group.CONTRAST, "first", "NAME", OneOf(get_args(Metric)))
    """The responses are contrasted by this: first, the logits of the first tokens that differ; or
    sequence, the mean log-probabilities of their first tokens."""
    sequence_tokens: int = option(Group.CONTRAST, 20, "N", whole_number(1))
    """Tokens that --metric=sequence takes; more where the first difference comes later."""
    exact: Exact = option(Group.SCORE, "none", "NAME", _exact)
    """These features are also removed, each in turn, and the model is run without them: none;
    flagged, those whose removal is a large step, where scores are wrong; or all, each listed one,
    too."""
    exact_above: float = option(
        Group.SCORE, 0.15, "X", number("a number above 0", lambda value: value > 0)
    )
    """A step is large if it takes out more than this share of the length of the residual
    stream."""
    prompt_activations: bool = switch(Group.SCORE)
    """Also write which features are active on the flagged prompt and on the base prompt."""

    @property
    def sequence(self) -> int | None:
        """How many tokens of the responses are contrasted; None for the first that differ."""
        return self.sequence_tokens if self.metric == "sequence" else None

    @property
    def needs_patched_runs(self) -> bool:
        """Whether pairs are run again from a hook point on."""
        return self.exact != "none" or self.name == "ig"

    @property
    def reads_base_prompts(self) -> bool:
        """Whether the base prompts are run, too."""
        return self.baseline != "zero" or self.prompt_activations

    def check(self, *, has_base_prompts: bool = True) -> None:
        """Raise SettingsError if settings contradict each other."""
        if self.baseline != "zero" and self.position != "last":
            msg = f"--baseline={self.baseline} compares the last tokens of prompts, "
            msg += f"--position={self.position} asks for others."
            raise SettingsError(msg, "Use --position=last, or --baseline=zero.")
        if self.baseline != "zero" and not has_base_prompts:
            msg = f"the baseline {self.baseline!r} needs base_prompts."
            raise SettingsError(msg, "Give the neutral prompt of each pair.")

    def describe(self) -> dict[str, Any]:
        """Return `metadata.atp.method`."""
        return {
            "name": NAMES[self.name],
            **({"steps": self.ig_steps} if self.name == "ig" else {}),
            "baseline": self.baseline,
            "position": self.position,
            "metric": self.metric,
            **({} if self.sequence is None else {"sequence_tokens": self.sequence}),
            "exact": self.exact,
            **({} if self.exact == "none" else {"exact_above": self.exact_above}),
            "prompt_activations": self.prompt_activations,
        }


def no_mean(path: Path) -> InputError:
    """Return the error of an input without a readable base prompt, which has no mean."""
    msg = f"--baseline=mean: {path} holds no base prompt that can be read."
    return InputError(msg, "Mend the prompts of the base variations, or use --baseline=zero.")
