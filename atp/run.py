"""`atp run`: reader -> contrasts -> batches -> capture -> scores -> journal -> results.

torch and all that needs it is imported inside `run`: names, settings, input and output folder are
checked before it is loaded.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

import structlog

from atp.dataset import output, reader
from atp.dataset.journal import SUFFIX, Journal, outcome
from atp.dataset.pairs import BrokenPair, Pair, PairKey
from atp.dataset.results import write_results
from atp.dataset.source import opened
from atp.dataset.survey import survey as survey_input
from atp.errors import ExitCode, StoppedError, UnavailableError
from atp.log import progress
from atp.model.names import check_model_name, check_sae_spec, check_same_model
from atp.signals import StopRequest, stop_on_signal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from atp.dataset.journal import Analysis
    from atp.dataset.survey import Survey
    from atp.model.contrast import Contrasted, Contraster
    from atp.model.dictionaries import Dictionary
    from atp.model.loading import Model
    from atp.settings import Settings

WINDOW = 256
"""Pairs among which batches of similar length are made; bounds what is in memory."""

BATCH_TOKENS = {"cpu": 2048, "cuda": 16384}
"""Default --batch-tokens by device. On a CPU larger batches gain nothing; a GPU is unmeasured."""

REFRESH_SHARE = 0.02
"""The result file is refreshed during the run as often as this share of its time allows."""

FAILURES_IN_A_ROW = 8
"""Pairs that may fail one after the other before the run ends itself."""

log = structlog.get_logger()


def run(settings: Settings) -> tuple[ExitCode, list[Path]]:
    """Score every pair of the input.

    Returns:
        The exit code, OK or PAIRS_FAILED, and the result files.

    Raises:
        AtpError: anything the user can mend; what was computed before is in the journal.
    """
    check_model_name(settings.model, settings.revision)
    for spec in settings.sae_specs:
        trained_on = check_sae_spec(spec)
        if trained_on and not settings.allow_other_model:
            check_same_model(settings.model, trained_on, spec)
    with opened(settings.input):
        pass  # whether it is there, before the output folder is made
    began = time.monotonic()
    with output.held(settings.out):
        survey = survey_input(settings.input)
        survey_seconds = time.monotonic() - began
        log.info(
            "run.start",
            input=str(survey.path),
            questions=survey.questions,
            pairs=survey.pairs,
            unpaired=survey.broken_pairs,
        )
        with stop_on_signal() as stop:
            model, dictionaries, contraster = _load(settings)
            total = min(survey.pairs, settings.limit or survey.pairs)
            with _journal(settings, survey, model, dictionaries) as journal:
                task = _Task(
                    settings,
                    survey,
                    model,
                    dictionaries,
                    contraster,
                    journal,
                    total,
                    stop,
                    refresh_seconds=2 * survey_seconds,
                )
                return task.finish()


def _load(settings: Settings) -> tuple[Model, list[Dictionary], Contraster]:
    began = time.monotonic()
    from atp.model.contrast import Contraster  # noqa: PLC0415
    from atp.model.dictionaries import load_sae  # noqa: PLC0415
    from atp.model.loading import load_model, without_progress_bars  # noqa: PLC0415
    from atp.scoring import check_dictionaries  # noqa: PLC0415  (imports torch)

    if not sys.stderr.isatty():
        without_progress_bars()
    model = load_model(
        settings.model,
        revision=settings.revision,
        device=settings.device,
        dtype=settings.model_dtype,
    )
    contraster = Contraster(
        model,
        max_tokens_to_check=settings.max_tokens_to_check,
        chat_template=settings.chat_template,
    )
    dictionaries = [load_sae(spec, device=model.device) for spec in settings.sae_specs]
    for dictionary in dictionaries:
        known_before = check_sae_spec(dictionary.spec) is not None
        if not (known_before or settings.allow_other_model):
            check_same_model(settings.model, dictionary.trained_on, dictionary.spec)
    check_dictionaries(model, dictionaries)
    log.info(
        "model.loaded",
        model=model.name,
        device=str(model.device),
        dtype=str(model.dtype).removeprefix("torch."),
        saes=[dictionary.spec for dictionary in dictionaries],
        seconds=round(time.monotonic() - began, 1),
    )
    return model, dictionaries, contraster


def _journal(
    settings: Settings, survey: Survey, model: Model, dictionaries: list[Dictionary]
) -> Journal:
    """Return the journal of an earlier run of the same fingerprint, or a new one."""
    from atp.record import facts, fingerprint  # noqa: PLC0415

    batch_tokens = settings.batch_tokens or BATCH_TOKENS[model.device.type]
    known = facts(settings, survey, model, dictionaries, batch_tokens)
    identity = fingerprint(known)
    if not settings.fresh:
        for path in sorted(settings.out.glob(f"*{SUFFIX}"), reverse=True):
            if (Journal.header_of(path) or {}).get("fingerprint") != identity:
                continue
            if (journal := Journal.reopen(path)) is not None:
                log.info("run.resume", journal=str(path), done=len(journal))
                return journal
    name = output.run_name(settings.out, model.name)
    header = {
        "run": name,
        "fingerprint": identity,
        "started": _now(),
        "results": output.result_names(name, [dictionary.label for dictionary in dictionaries]),
        "facts": known,
    }
    return Journal.create(settings.out / f"atp_results_{name}{SUFFIX}", header)


@dataclass
class _Task:
    """One run: what it works with, and how far it is."""

    settings: Settings
    survey: Survey
    model: Model
    dictionaries: list[Dictionary]
    contraster: Contraster
    journal: Journal
    total: int
    stop: StopRequest
    refresh_seconds: float
    """What writing the result files is expected to take."""
    began: float = field(default_factory=time.monotonic)
    refreshed_seconds: float = 0.0
    unsaved: int = 0
    failures_in_a_row: int = 0

    def finish(self) -> tuple[ExitCode, list[Path]]:
        """Do the pairs that are left and write the result files."""
        paths = self._paths()
        ended = self.journal.ended
        if ended is None or not all(path.exists() for path in paths):
            done_before = self.journal.done
            with progress(self.total, done_before) as advance:
                self._score(advance)
            ended = _now()
            self._write(ended)
            if self.journal.done == self.total:
                self.journal.end(ended)
        failed = self.total - self.journal.done
        log.info(
            "run.done",
            pairs=self.total,
            errors=failed,
            seconds=round(time.monotonic() - self.began, 1),
            results=[str(path) for path in paths],
        )
        return (ExitCode.PAIRS_FAILED if failed else ExitCode.OK), paths

    def _paths(self) -> list[Path]:
        return [self.settings.out / name for name in self.journal.header["results"]]

    def _score(self, advance: Callable[[int], None]) -> None:
        self._stop_if_asked()  # a signal may have come while the model was loading
        from atp.attribution.batches import plan  # noqa: PLC0415
        from atp.model.contrast import Contrasted  # noqa: PLC0415
        from atp.scoring import without_contrast  # noqa: PLC0415  (imports torch)

        budget = self.journal.header["facts"]["settings"]["batch_tokens"]
        for window in _windows(reader.pairs(self.survey.path, self.settings.limit), WINDOW):
            self._stop_if_asked()  # also where no pair of a window needs a batch
            contrasted: list[tuple[PairKey, Contrasted]] = []
            for pair in window:
                if isinstance(pair, BrokenPair):
                    self._add(pair.key, [{"error": pair.error, "details": pair.details}], advance)
                    continue
                found = self.contraster(pair.prompt, pair.target_response, pair.base_response)
                if isinstance(found, Contrasted):
                    contrasted.append((pair.key, found))
                else:
                    self._add(pair.key, [without_contrast(found)], advance)
            # The whole window is planned, done pairs included, so that a resumed run makes the
            # same batches as an uninterrupted one and gets the same bits.
            for indices in plan([item.contrast for _, item in contrasted], budget):
                batch = [contrasted[i] for i in indices]
                if not all(self.journal.is_done(key) for key, _ in batch):
                    self._do_batch(batch, advance)
                self._stop_if_asked()

    def _do_batch(
        self, batch: list[tuple[PairKey, Contrasted]], advance: Callable[[int], None]
    ) -> None:
        began = time.monotonic()
        analyses = self._analyse([item for _, item in batch])
        for (key, _), of_pair in zip(batch, analyses, strict=True):
            self._add(key, of_pair, advance)
        log.info(
            "batch.done",
            done=len(self.journal),
            total=self.total,
            pairs=len(batch),
            tokens=sum(len(item.contrast.tokens) for _, item in batch),
            seconds=round(time.monotonic() - began, 3),
        )

    def _analyse(self, batch: list[Contrasted]) -> list[list[Analysis]]:
        """Run a batch; when it fails, halve it, so that one pair never costs another its result."""
        from atp.scoring import analyse  # noqa: PLC0415  (imports torch)

        try:
            analyses = analyse(self.model, self.dictionaries, batch, self.settings.top_k)
            self.failures_in_a_row = 0
            return analyses  # noqa: TRY300  (an else would stand behind the except)
        except Exception as error:  # noqa: BLE001  (a pair's fault becomes that pair's error)
            failure = _explain(error)
        # Outside the except block: the traceback would keep the failed batch's tensors alive.
        self.model.free_memory()
        if len(batch) == 1:
            self._count_failure(failure)
            return [[failure] * len(self.dictionaries)]
        log.warning("batch.retry", pairs=len(batch), **failure)
        half = len(batch) // 2
        return self._analyse(batch[:half]) + self._analyse(batch[half:])

    def _count_failure(self, failure: Analysis) -> None:
        """End the run when it is not a pair's fault: a lost device fails every pair alike."""
        self.failures_in_a_row += failure["error"] != "OOM"
        if self.failures_in_a_row >= FAILURES_IN_A_ROW:
            last = f"{failure['error']}: {failure['details']['message']}"
            msg = f"{FAILURES_IN_A_ROW} pairs in a row failed, the last with {last}"
            hint = "Results so far are saved; mend the cause and start the same command."
            raise UnavailableError(msg, hint)

    def _add(self, key: PairKey, analyses: list[Analysis], advance: Callable[[int], None]) -> None:
        """Journal a pair's analyses, unless it is done; a single one holds for every SAE."""
        if self.journal.is_done(key):
            return
        if len(analyses) < len(self.dictionaries):
            analyses = analyses * len(self.dictionaries)
        for analysis in {id(analysis): analysis for analysis in analyses}.values():
            if (kind := outcome(analysis)) != "scored":
                level = log.warning if kind == "error" else log.info
                level(f"pair.{kind}", pair=str(key), reason=analysis[kind])
        self.journal.add(key, analyses)
        advance(1)
        self.unsaved += 1
        if self.unsaved >= self.settings.save_interval:
            self._save()

    def _save(self) -> None:
        self.journal.save()
        self.unsaved = 0
        elapsed = time.monotonic() - self.began
        if self.refreshed_seconds + self.refresh_seconds <= REFRESH_SHARE * elapsed:
            self._write(_now())

    def _write(self, finished: str) -> None:
        from atp.record import metadata  # noqa: PLC0415

        began = time.monotonic()
        entries = metadata(self.settings, self.survey, self.journal, self.total, finished)
        write_results(self.survey, self.journal, self._paths(), entries)
        self.refresh_seconds = time.monotonic() - began
        self.refreshed_seconds += self.refresh_seconds
        log.info("save.done", done=len(self.journal), seconds=round(self.refresh_seconds, 3))

    def _stop_if_asked(self) -> None:
        if self.stop.exit_code is None:
            return
        self.journal.save()
        self._write(_now())
        log.info("run.stop", done=len(self.journal), total=self.total)
        msg = f"stopped by a signal after {len(self.journal)} of {self.total} pairs; all are saved."
        raise StoppedError(self.stop.exit_code, msg, "Start the same command to go on.")


def _windows(pairs: Iterable[Pair | BrokenPair], size: int) -> Iterator[list[Pair | BrokenPair]]:
    iterator = iter(pairs)
    while window := list(islice(iterator, size)):
        yield window


def _explain(error: Exception) -> Analysis:
    """Return the analysis of a pair whose batch failed."""
    from atp.model.loading import is_out_of_memory  # noqa: PLC0415  (imports torch)

    kind = "OOM" if is_out_of_memory(error) else type(error).__name__
    details: dict[str, Any] = {"message": str(error).splitlines()[0] if str(error) else ""}
    return {"error": kind, "details": details}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
