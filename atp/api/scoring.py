"""One call over pairs: the settings, model and SAEs of a run, and its windows of pairs.

Planning, capture and scoring are those of `atp run`, so the numbers are those of a run; only
reading and keeping differ.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Self

from atp.api.loading import model_and_saes
from atp.api.pairs import source_of
from atp.api.session import library_log
from atp.config.method import Method, no_mean
from atp.config.option import options_of
from atp.config.settings import NO_INPUT, WINDOW_PAIRS, Settings
from atp.dataset.pairs import BrokenPair
from atp.errors import SettingsError
from atp.model.memory_model import batch_tokens
from atp.model.pair_tokenizer import PairIssue, PairTokenizer, TokenizedPair
from atp.run.batch_runner import BatchRunner
from atp.run.metadata import facts, fingerprint, now
from atp.scoring.analysis_json import issue_analysis
from atp.scoring.preflight import check_dictionaries
from atp.scoring.scorer import Scorer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from atp.api.loading import AnyModel, AnySae, AnyTokenizer
    from atp.api.pairs import Pairs, Source
    from atp.dataset.journal import Analysis
    from atp.dataset.pairs import Pair
    from atp.model.dictionaries.placement import Dictionaries
    from atp.model.language_model import Model

    Scored = tuple[Pair | BrokenPair, list[Analysis]]
    """A pair and its analyses, one for each SAE."""


@dataclass(frozen=True)
class Call:
    """Pairs to score, and all that they are scored with."""

    source: Source
    settings: Settings
    model: Model
    dictionaries: Dictionaries
    tokenizer: PairTokenizer
    runner: BatchRunner
    started: str

    @classmethod
    def of(  # noqa: PLR0913  (what a call gives)
        cls,
        model: AnyModel,
        saes: AnySae | Iterable[AnySae],
        pairs: Pairs,
        *,
        tokenizer: AnyTokenizer | None,
        base_prompts: Sequence[str] | None = None,
        sequence_tokens: int | None = None,
        prompt_activations: bool | None = None,
        allow_other_model: bool = False,
        **options: Any,  # noqa: ANN401  (of several types)
    ) -> Self:
        """Check the options, read the pairs, load what is named, and try it on a probe.

        `options` are fields of Settings and of Method.
        """
        if sequence_tokens is not None:
            options |= {"metric": "sequence", "sequence_tokens": sequence_tokens}
        if prompt_activations is None:
            prompt_activations = base_prompts is not None
        how = _checked(Method, options, prompt_activations=prompt_activations)
        settings = _checked(Settings, options, input=NO_INPUT, out=NO_INPUT, scoring=how)
        source = source_of(pairs, base_prompts)
        has_base = not source.of_texts or base_prompts is not None
        how.check(has_base_prompts=has_base)
        if how.prompt_activations and not has_base:
            msg = "prompt_activations needs base_prompts."
            raise SettingsError(msg, "Give the neutral prompt of each pair.")
        usable, dictionaries = model_and_saes(
            model, saes, tokenizer, allow_other_model=allow_other_model
        )
        pair_tokenizer = PairTokenizer(
            usable,
            max_tokens_to_check=settings.max_tokens_to_check,
            chat_template=settings.chat_template,
            sequence_tokens=how.sequence,
            base_prompts=how.reads_base_prompts,
        )
        check_dictionaries(usable, dictionaries, how)
        settings = replace(
            settings,
            input=source.scan.path,
            model=usable.name,
            sae=tuple(each.spec for each in dictionaries),
            allow_other_model=allow_other_model,
        )
        budget = settings.batch_tokens or batch_tokens(usable, dictionaries, settings.tail)
        scorer = Scorer(usable, dictionaries, settings.top_k, how, budget)
        call = cls(
            source, settings, usable, dictionaries, pair_tokenizer, BatchRunner(scorer), now()
        )
        if how.baseline == "mean" and source.scan.pairs:
            with library_log():
                call.runner.take_means(call._base_prompts())
        return call

    def windows(
        self,
        advance: Callable[[int], None],
        before: Callable[[Iterable[TokenizedPair | Analysis]], None] = lambda _: None,
    ) -> Iterator[list[Scored]]:
        """Score the pairs, a window at a time, in order.

        `advance` takes the number of pairs just done, `before` each window before it is scored.
        """
        n_saes, planner = len(self.dictionaries), self.runner.planner()
        pairs = self.source.pairs()
        while window := list(islice(pairs, WINDOW_PAIRS)):
            items = [self.tokenised(pair) for pair in window]
            before(items)
            analyses = [
                [] if isinstance(item, TokenizedPair) else [item] * n_saes for item in items
            ]
            left = {i: item for i, item in enumerate(items) if isinstance(item, TokenizedPair)}
            advance(len(items) - len(left))
            numbers = list(left)
            planned = planner.plan(list(left.values()))
            for group in planner.grouped(planned.batches):
                task = planned.task(group, numbers)
                for i, of_pair in zip(task.keys, self.runner.run(task), strict=True):
                    analyses[i] = of_pair
                advance(len(task.keys))
            yield list(zip(window, analyses, strict=True))
        self.runner.release_memory()

    def tokenised(self, pair: Pair | BrokenPair) -> TokenizedPair | Analysis:
        """Return a pair as token ids, or the analysis that says why it has none."""
        if isinstance(pair, BrokenPair):
            return {"error": pair.error, "details": pair.details}
        texts = pair.prompt, pair.target_response, pair.base_response
        item = self.tokenizer(*texts, base_prompt=pair.base_prompt)
        return issue_analysis(item) if isinstance(item, PairIssue) else item

    @property
    def names(self) -> list[str]:
        """The short names of the SAEs, with a number where two have the same."""
        labels = [each.label for each in self.dictionaries]
        return [
            label if labels.count(label) == 1 else f"{label} ({number})"
            for number, label in enumerate(labels)
        ]

    def header(self) -> dict[str, Any]:
        """Return the facts of the run as a journal's header has them."""
        budget = self.runner.scorer.batch_tokens
        known = facts(self.settings, self.source.scan, self.model, self.dictionaries, budget)
        return {
            "pairs": self.source.scan.pairs,
            "settings": self.settings.as_json(),
            "fingerprint": fingerprint(known),
            "started": self.started,
            "results": self.names,
            "facts": known,
        }

    def _base_prompts(self) -> Iterator[tuple[int, ...]]:
        count = 0
        for prompt in self.source.base_prompts():
            ids = self.tokenizer.prompt(prompt)
            if not isinstance(ids, PairIssue):
                count += 1
                yield ids
        if not count:
            raise no_mean(self.source.scan.path)


def _checked(kind: type, options: dict[str, Any], **others: Any) -> Any:  # noqa: ANN401  (either class)
    """Return settings of the options that their class has, checked as on the command line."""
    declared, values = options_of(kind), {}
    for field in fields(kind):
        value = options.get(field.name)
        if value is not None:
            option = declared[field.name]
            values[field.name] = option.check(option.name, str(value))
    return kind(**values, **others)
