"""The joint effect: what the metric loses when all selected features are removed at once.

Single effects do not add up. So every scored pair is run once more, at the positions and from the
baseline of its scores, and the features of an SAE that are selected are removed together.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from atp.config.method import Method
from atp.config.option import options_of
from atp.config.sae_choice import CHOICES
from atp.config.settings import WINDOW_PAIRS, Settings
from atp.dataset import reader
from atp.dataset.input_scan import scan_input
from atp.dataset.pairs import BrokenPair
from atp.errors import InputError, UnavailableError
from atp.features.scored import scored_in
from atp.run import setup
from atp.runtime.live import phase
from atp.stats.bootstrap import interval_of_mean

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from atp.dataset.pairs import Pair, PairKey
    from atp.dataset.result_files import ResultFile
    from atp.features.aggregation import Aggregated
    from atp.model.dictionaries.loading import Dictionary
    from atp.model.pair_tokenizer import PairTokenizer, TokenizedPair
    from atp.scoring.dictionary_scorer import DictionaryScores

    Numbers = dict[tuple[str, str], list[tuple[int, float, float]]]
    """By SAE (hook point, hash), of each pair: question, joint effect, sum of the single ones."""

NOT_RUN = (np.nan, np.nan)
"""The numbers of a scored pair that failed here."""


@dataclass
class _Observer:
    """Keeps the numbers of each pair of a window; a batch that is scored again replaces them."""

    selected: dict[tuple[str, str], Any]  # ids of each SAE's selected features, (feature,)

    def __post_init__(self) -> None:
        self.of_pairs: dict[tuple[tuple[str, str], int], tuple[float, float]] = {}

    def __call__(
        self, dictionary: Dictionary, pairs: Sequence[TokenizedPair], scores: DictionaryScores
    ) -> None:
        """Take the numbers of some pairs."""
        sae = dictionary.hook_name, dictionary.origin["sha256"]
        ids = self.selected[sae]
        best = scores.scores.scores[:, ids]
        if scores.removed:
            effects = scores.effects[:, ids]
            best = best.where(effects.isnan(), effects)
        rows = zip(pairs, scores.together, best.double().sum(dim=1).tolist(), strict=True)
        for pair, joint, single in rows:
            self.of_pairs[sae, id(pair)] = joint, single


def joint_effects(features: Aggregated) -> dict[str, dict[str, Any]]:
    """Measure, and return `joint` of each SAE with a selected feature, by the SAE's name.

    An AtpError says that an input, the model or an SAE is not there, or not as it was.
    """
    selected = {
        _identity(sae.sae): sorted(map(int, sae.selection.selected))
        for sae in features.saes
        if sae.selection.selected
    }
    by_input: dict[str, list[ResultFile]] = {}
    for result in features.results:
        if result.sae in selected:
            by_input.setdefault(result.metadata["input"]["sha256"], []).append(result)
    numbers: Numbers = {sae: [] for sae in selected}
    first_question = 0  # questions of several inputs are numbered on
    for results in by_input.values():
        first_question += _measure(results, selected, numbers, first_question)
    joint = {}
    for sae in features.saes:
        if measured := numbers.get(_identity(sae.sae)):
            question, effect, single = np.array(measured).T
            joint[sae.name] = _summary(question, effect, single, features.settings.seed)
    return joint


def _identity(sae: dict[str, Any]) -> tuple[str, str]:
    return sae["hook_name"], sae["sha256"]


def _measure(
    results: Sequence[ResultFile],
    selected: dict[tuple[str, str], list[int]],
    numbers: Numbers,
    first_question: int,
) -> int:
    """Add the numbers of an input's pairs, and return how many questions it has."""
    import torch  # noqa: PLC0415  (these take seconds, and `atp features` seldom needs them)

    from atp.model.memory_model import batch_tokens  # noqa: PLC0415
    from atp.run.batch_runner import BatchRunner  # noqa: PLC0415
    from atp.scoring.scorer import Scorer  # noqa: PLC0415

    first = results[0]
    settings = _settings(results)
    specs = setup.check(settings)
    scan = scan_input(settings.input)
    _check_same(first.path, "input", first.metadata["input"]["sha256"], scan.sha256)
    loaded = setup.load(settings, specs)
    model, dictionaries = loaded.model, loaded.dictionaries
    here = {(each.hook_name, each.origin["sha256"]) for each in dictionaries}
    for result in results:
        _check_same(result.path, "SAE", result.sae, *here)
    told = first.metadata["model"].get("sha256")
    _check_same(first.path, "model", told, model.origin.get("sha256"))
    together = {
        sae: torch.tensor(ids, device=model.device) for sae, ids in selected.items() if sae in here
    }
    observer = _Observer(together)
    budget = settings.batch_tokens or batch_tokens(model, dictionaries, settings.tail)
    how = (settings.top_k, settings.scoring, budget)
    scorer = Scorer(model, dictionaries, *how, observe=observer, together=together)
    runner, tokenizer = BatchRunner(scorer), loaded.pair_tokenizer
    planner = runner.planner()
    total = min(scan.pairs, settings.limit or scan.pairs)
    if settings.scoring.baseline == "mean":
        runner.take_means(_base_prompts(settings.input, total, tokenizer))
    scored = {  # pairs with an error are not
        sae: {key for result in results if result.sae == sae for key, *_ in scored_in(result)}
        for sae in together
    }
    pairs = reader.pairs(settings.input, total)
    title = "removing the selected features together"
    with phase(title, total, unit="pairs") as line:
        while window := list(islice(pairs, WINDOW_PAIRS)):
            observer.of_pairs.clear()
            items = list(_tokenised(window, tokenizer))
            planned = planner.plan([item for _, item in items])
            for batch in planned.batches:
                runner.run(planned.task([batch], items))
            for sae, (key, item) in product(together, items):
                if key in scored[sae]:
                    of_pair = observer.of_pairs.get((sae, id(item)), NOT_RUN)
                    numbers[sae].append((first_question + key.question, *of_pair))
            line.advance(len(window))
    return scan.questions


def _tokenised(
    window: Sequence[Pair | BrokenPair], tokenizer: PairTokenizer
) -> Iterator[tuple[PairKey, TokenizedPair]]:
    from atp.model.pair_tokenizer import TokenizedPair  # noqa: PLC0415

    for pair in window:
        if not isinstance(pair, BrokenPair):
            texts = pair.prompt, pair.target_response, pair.base_response
            item = tokenizer(*texts, base_prompt=pair.base_prompt)
            if isinstance(item, TokenizedPair):
                yield pair.key, item


def _settings(results: Sequence[ResultFile]) -> Settings:
    """Return the settings of a run, for the SAEs of some of its results, wherever it ran."""
    metadata = results[0].metadata
    told = {**metadata["settings"], "device": None, "model_dtype": metadata["model"]["dtype"]}

    def of(kind: type) -> dict[str, Any]:
        return {
            field: told[option.name]
            for field, option in options_of(kind).items()
            if option.name in told
        }

    values = of(Settings) | {
        "input": Path(metadata["input"]["path"]),
        "revision": metadata["model"].get("revision"),
        "sae": tuple(dict.fromkeys(result.metadata["sae"]["spec"] for result in results)),
        **{name: getattr(Settings, name) for name in CHOICES},
        "shard": None,
    }
    scoring = Method(**{**of(Method), "prompt_activations": False})
    return Settings(**values, scoring=scoring)


def _base_prompts(path: Path, total: int, tokenizer: PairTokenizer) -> Iterator[tuple[int, ...]]:
    question = None
    for pair in reader.pairs(path, total):
        if isinstance(pair, BrokenPair) or pair.key.question == question:
            continue
        question = pair.key.question
        prompt = tokenizer.prompt(pair.base_prompt)
        if isinstance(prompt, tuple):
            yield prompt


def _check_same(path: Path, what: str, told: object, *found: object) -> None:
    if told not in found:
        msg = f"{path}: the {what} is not the one that was scored: its hash has changed."
        raise InputError(msg, "Run it again, or leave out --joint-effect.")


def _summary(question: Any, effect: Any, single: Any, seed: int) -> dict[str, Any]:  # noqa: ANN401  (arrays)
    finite = np.isfinite(effect) & np.isfinite(single)
    if not finite.any():
        msg = "no pair has a joint effect that is finite."
        raise UnavailableError(msg, "Leave out --joint-effect.")
    question = question[finite].astype(np.int64)
    numbers: dict[str, Any] = {
        "pairs": int(finite.sum()),
        "questions": len(np.unique(question)),
        "left_out": int((~finite).sum()),
    }
    for name, values in (("effect", effect[finite]), ("sum_of_single", single[finite])):
        numbers[f"mean_{name}"] = float(values.mean())
        numbers[f"{name}_interval"] = interval_of_mean(values[None], question, seed)
    return numbers
