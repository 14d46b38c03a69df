"""`attribute` and `attribute_file`: the scores of features, as `atp run` computes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from atp.api.record import Record
from atp.api.result import Result
from atp.api.scoring import Call
from atp.api.session import bar, logged
from atp.api.tables import Tables
from atp.dataset.pairs import PairKey  # noqa: TC001  (a field of a named tuple)
from atp.run.metadata import now

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from atp.api.loading import AnyModel, AnySae, AnyTokenizer
    from atp.api.pairs import Pairs
    from atp.attribution.contrasts import Position
    from atp.config.method import Baseline, Exact, MethodName
    from atp.dataset.journal import Analysis


class FileAnalysis(NamedTuple):
    """The analysis of one pair of a file with one SAE."""

    key: PairKey  # the place of the sycophantic response: results[question].variations[variation]
    sae: str  # the SAE's name
    analysis: Analysis


def attribute(  # noqa: PLR0913  (keywords with defaults)
    model: AnyModel,
    saes: AnySae | Iterable[AnySae],
    pairs: Pairs,
    *,
    tokenizer: AnyTokenizer | None = None,
    base_prompts: Sequence[str] | None = None,
    method: MethodName = "atp",
    ig_steps: int = 10,
    baseline: Baseline = "zero",
    position: Position = "last",
    sequence_tokens: int | None = None,
    exact: Exact = "none",
    exact_above: float = 0.15,
    prompt_activations: bool | None = None,
    top_k: int = 50,
    max_tokens_to_check: int = 20,
    chat_template: bool = False,
    batch_tokens: int | None = None,
    allow_other_model: bool = False,
    progress: bool = True,
) -> Result:
    """Score every feature of one or several SAEs for pairs of responses.

    Objects in memory stay as they are: on their device, in their dtype, mode and gradients. What is
    on another device than the model is copied there for this call. A pair that fails costs no other
    pair: its analysis carries the error.

    Args:
        model: a hub name, a folder or a GGUF file; or a model from `load_model`, a
            TransformerBridge, or a Hugging Face model with its `tokenizer`.
        saes: "RELEASE:SAE_ID", a folder, or a pattern of either; or an SAE from `load_sae`, or of
            SAELens; or several of these, which are scored in one pass.
        pairs: (prompt, sycophantic response, neutral response) of each pair; or questions in the
            schema of an input file; or the path of such a file.
        tokenizer: of a Hugging Face model.
        base_prompts: of pairs given as texts, the neutral prompt of each; then the baselines "mean"
            and "base" are available, too. Questions and files hold them.
        method: "atp", attribution patching, or "ig", integrated gradients.
        ig_steps: of integrated gradients.
        baseline: the activations that scores are measured from: "zero", their "mean" over the base
            prompts, or those on the pair's own "base" prompt.
        position: where features are read: at the prompt's "last" token, from there to the end of
            the "tail", or at "all" tokens of the prompt.
        sequence_tokens: contrast the mean log-probabilities of that many first tokens of the
            responses, instead of the logits of the first tokens that differ.
        exact: also remove features in turn, and give their effects: "flagged", those whose relative
            size is above `exact_above`; or "all", each listed one, too.
        exact_above: a share of the length of the residual stream.
        prompt_activations: also list the features that are active on either prompt; by default
            where `base_prompts` are given.
        top_k: how many features an analysis lists, by absolute score.
        max_tokens_to_check: how many tokens of the responses to compare.
        chat_template: put prompts through the tokenizer's chat template.
        batch_tokens: most tokens in one pass, padding included; by default as many as surely fit
            into the free memory.
        allow_other_model: accept a named SAE that was trained on a model of another name.
        progress: show a bar on a terminal.

    Returns:
        The scores of all features, and one analysis for each pair.

    Raises:
        SettingsError: the SAE does not fit the model, or options do not go together.
        InputError: questions, or the file, are not in the schema of an input.
        UnavailableError: the model, the SAE or the device cannot be had.

    Example:
        >>> result = attribute("models/tiny", ["saes/layer1", "saes/layer2"], pairs)
        >>> result["layer2-128"].scores.shape
        torch.Size([2, 128])
    """
    call = Call.of(
        model,
        saes,
        pairs,
        tokenizer=tokenizer,
        base_prompts=base_prompts,
        name=method,
        ig_steps=ig_steps,
        baseline=baseline,
        position=position,
        sequence_tokens=sequence_tokens,
        exact=exact,
        exact_above=exact_above,
        prompt_activations=prompt_activations,
        top_k=top_k,
        max_tokens_to_check=max_tokens_to_check,
        chat_template=chat_template,
        batch_tokens=batch_tokens,
        allow_other_model=allow_other_model,
    )
    tables = Tables.of(call.dictionaries, call.source.scan.pairs)
    call.runner.scorer.observe = tables.observe
    scored = []
    with bar(call.source.scan.pairs, shown=progress) as line:
        for window in logged(call.windows(line.advance, tables.expect)):
            scored += window
    pairs_in_order = [pair for pair, _ in scored]
    analyses = [of_pair for _, of_pair in scored]
    tables.clear_unscored(analyses)
    record = Record(call.source, call.header(), now(), pairs_in_order, analyses)
    return Result(record, tables, range(len(call.dictionaries)))


def attribute_file(  # noqa: PLR0913  (keywords with defaults)
    model: AnyModel,
    saes: AnySae | Iterable[AnySae],
    path: str | Path,
    *,
    tokenizer: AnyTokenizer | None = None,
    method: MethodName = "atp",
    ig_steps: int = 10,
    baseline: Baseline = "zero",
    position: Position = "last",
    sequence_tokens: int | None = None,
    exact: Exact = "none",
    exact_above: float = 0.15,
    prompt_activations: bool = False,
    top_k: int = 50,
    max_tokens_to_check: int = 20,
    chat_template: bool = False,
    batch_tokens: int | None = None,
    allow_other_model: bool = False,
    progress: bool = True,
) -> Iterator[FileAnalysis]:
    """Score the pairs of an input file of any size, one window of pairs after the other.

    The file is checked, and model and SAEs are loaded, before this returns; pairs are scored as
    the results are taken. Memory does not grow with the file, and nothing is written: for files
    that take hours, `atp run` saves its results and resumes.

    Args:
        model: as for `attribute`.
        saes: as for `attribute`.
        path: of an input file, JSON or JSON Lines.
        tokenizer: as for `attribute`, and so are all other arguments.
        method: see there.
        ig_steps: see there.
        baseline: see there.
        position: see there.
        sequence_tokens: see there.
        exact: see there.
        exact_above: see there.
        prompt_activations: also list the features that are active on either prompt.
        top_k: see there.
        max_tokens_to_check: see there.
        chat_template: see there.
        batch_tokens: see there.
        allow_other_model: see there.
        progress: show a bar on a terminal.

    Yields:
        (key, sae, analysis) of each pair and SAE, in the order of the file.

    Raises:
        InputError: the file does not exist, or is no input.
        SettingsError: as for `attribute`, and so is UnavailableError.

    Example:
        >>> for key, sae, analysis in attribute_file("models/tiny", "saes/layer1", "feedback.json"):
        ...     print(key, sae, len(analysis["top_features"]))
        results[0].variations[1] layer1-128 50
        results[0].variations[2] layer1-128 50
    """
    call = Call.of(
        model,
        saes,
        path,
        tokenizer=tokenizer,
        name=method,
        ig_steps=ig_steps,
        baseline=baseline,
        position=position,
        sequence_tokens=sequence_tokens,
        exact=exact,
        exact_above=exact_above,
        prompt_activations=prompt_activations,
        top_k=top_k,
        max_tokens_to_check=max_tokens_to_check,
        chat_template=chat_template,
        batch_tokens=batch_tokens,
        allow_other_model=allow_other_model,
    )
    return _streamed(call, progress=progress)


def _streamed(call: Call, *, progress: bool) -> Iterator[FileAnalysis]:
    with bar(call.source.scan.pairs, shown=progress) as line:
        for window in logged(call.windows(line.advance)):
            for pair, of_pair in window:
                for name, analysis in zip(call.names, of_pair, strict=True):
                    yield FileAnalysis(pair.key, name, analysis)
