"""The command line: usage text; argv and environment -> Settings; picks the command.

Nothing here imports torch, and --help not even what writes the log: it answers at once.
"""

from __future__ import annotations

import os
import re
import sys
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from docopt import DocoptExit, docopt

from atp import __version__
from atp.errors import AtpError, ExitCode, SaveError, SettingsError, UnavailableError, did_you_mean
from atp.sources import (
    OPTIONS_OF,
    check_options,
    compare_sources,
    from_sources,
    intervene_sources,
    merge_sources,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from atp.signals import StopRequest

USAGE = """atp - which features of a language model make it sycophantic

Usage:
  atp run [INPUT] [options] [--sae=SPEC]...
  atp check [INPUT] [options] [--sae=SPEC]...
  atp fetch [options] [--sae=SPEC]...
  atp bench [INPUT] [options] [--sae=SPEC]...
  atp merge RESULT... [options]
  atp intervene [INPUT] [options] [--sae=SPEC]...
  atp intervene --compare BEFORE AFTER [options]
  atp --help
  atp --version

Commands:
  run  Score every pair of INPUT (JSON or JSON Lines) by attribution patching and write the
       result file. INPUT defaults to the newest *.json or *.jsonl under /data/input.
       Started again with the same input and settings, it goes on where it stopped.
  check  Look at INPUT, names, caches, disk and device before that run, and say all that is wrong,
       what the run would find, and about how much memory, disk and time it takes. Computes
       nothing on a GPU.
  fetch  Bring the model and the SAEs of that run into the hub cache, compare their hashes, and
       record them. Started again, it goes on where it stopped. The run then needs no network,
       and stays on what was fetched until the next fetch.
  bench  Time that run on INPUT, side by side with the notebook's procedure and with a bare forward
       pass over the same tokens, and print a table. Takes several minutes.
  merge  Put the results of all shards of a run together, into the result of the whole run. RESULT
       is a shard's result file, or a folder that holds them, itself or in its folders. Of the
       options, it takes --out.

What to read:
  --model=NAME               Hub name, Hugging Face folder or GGUF file (default
                             google/gemma-2-9b-it).
  --revision=REV             Branch, tag or commit of a hub model (default: its main branch).
  --sae=SPEC                 RELEASE:SAE_ID of SAELens, or a folder in SAELens format; repeat it
                             for several SAEs, or give a pattern of *, ? and [..] in quotes:
                             'RELEASE:layer_*/width_16k/canonical' or './saes/layer*'; a * ends at
                             a slash. Overrides --hook-layer and --sae-width.
  --hook-layer=LIST          Layers whose canonical Gemma Scope SAE to use, as in 9,20,31
                             (default 31).
  --sae-width=N              Features of that SAE, as in 16384 or 131k (default 16384).
  --allow-other-model        Accept an SAE that was trained on a model of another name.

What to compute:
  --max-tokens-to-check=N    Tokens of the two answers to compare (default 20).
  --top-k=N                  Features to list for each pair, by |score| (default 50).
  --chat-template            Put prompts through the tokenizer's chat template (default: raw text).
  --limit=N                  Score the first N pairs only (default: all).

How to run:
  --shard=I/N                Do part I of N of the input, counted from 0; needs --batch-tokens, the
                             same for all parts, and its own --out. Afterwards: atp merge.
  --out=DIR                  Folder of the results (default /data/results/feedback where /data/input
                             exists, ./results/feedback elsewhere).
  --device=NAME              cpu, cuda or cuda:N (default: cuda where there is one, else cpu).
  --model-dtype=NAME         bfloat16 or float32 (default bfloat16, float32 on a cpu).
  --batch-tokens=N           Most tokens in a pass, padding included (default: what the free memory
                             surely holds, at most 2048 on a cpu, 16384 on cuda).
  --save-interval=N          Save results every N pairs, once their batch is done (default 10).
  --fresh                    Do not go on with an earlier run, start anew. Of fetch: compare the
                             hashes of files again that an earlier fetch has compared.
  --json                     Of check: print one JSON object instead of text.
  --rounds=N                 Of bench: how often to time each procedure (default 3).

What to intervene on (atp intervene):
  --features=FILE            What atp features wrote: the selected features of each SAE.
  --strength=X               The share of what they write that is taken out (default 1: all of it).
  --ablate-first             Do so at the first position of a text, too (default: it is left alone).
  --controls=N               Random sets of features to compare with (default 20).
  --seed=N                   Of random sets, bootstrap and sampled answers (default 0).
  --regenerate               Write answers anew, with and without the features.
  --max-new-tokens=N         Where such an answer is cut off (default 128).
  --temperature=X            Of such answers (default 0: greedy).
  --compare                  Compare two labelled files, BEFORE and AFTER.

  -h --help                  Show this text.
  --version                  Show the version.

Every option can come from the environment: --top-k=10 is ATP_TOP_K=10; the command line wins.
Result paths, and those of fetch's records, go to stdout, logs to stderr.

Exit codes: 0 every pair has a result (skipped pairs included); 1 some pairs carry an error;
2 usage, settings or input at fault; 3 model, SAE or device cannot be had; 74 results cannot be
written; 75 another run holds the output folder; 130, 143 stopped by a signal; 70 a fault of
atp itself. Of check: 0 nothing is wrong; 2 as above; 3 as above, or too little memory or disk. Of
fetch: 0 all is there; 2 as above; 3 something cannot be had, or too little disk; 74 the cache
cannot be written. Of merge: as of run; 2 also where a shard is missing, not complete, or of
another run. Of intervene: as of run; 2 also where the features are of another model or SAE.
"""

OUT_OF_MEMORY = "Give it more, or lower --batch-tokens; what was computed is saved."


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code; prints no traceback."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if {"--help", "-h"} & set(arguments):
        print(USAGE, end="")  # noqa: T201  (what --help is for)
        return ExitCode.OK
    if arguments == ["--version"]:
        print(__version__)  # noqa: T201
        return ExitCode.OK

    import structlog  # noqa: PLC0415  (half of the start-up time)

    from atp.log import configure  # noqa: PLC0415  (as structlog)
    from atp.signals import stop_on_signal  # noqa: PLC0415  (as structlog)

    configure(run_id=uuid.uuid4().hex[:12])
    log = structlog.get_logger()
    try:
        with stop_on_signal() as stop:
            return _dispatch(arguments, stop)
    except AtpError as error:
        _report(error)
        return error.exit_code
    except MemoryError:
        _report(UnavailableError("the machine has no memory left.", OUT_OF_MEMORY))
        return ExitCode.UNAVAILABLE
    except Exception as error:  # noqa: BLE001  (a user never sees a traceback)
        frame = error.__traceback__
        while frame is not None and frame.tb_next is not None:
            frame = frame.tb_next
        log.error(  # noqa: TRY400  (one line, no traceback)
            "atp.bug",
            error=f"{type(error).__name__}: {error}",
            where=f"{frame.tb_frame.f_code.co_filename}:{frame.tb_lineno}" if frame else "",
            hint="This is a fault of atp: please report this line. What was computed is saved.",
        )
        return ExitCode.BUG


def command() -> NoReturn:
    """Be the command: leave with the exit code of `main`.

    Python's own way out takes a second and a half to take torch apart, which a machine that is
    about to be taken away may not have. Every file is closed by now.
    """
    try:
        code = main()
        sys.stdout.flush()
    except OSError as error:  # of --help and --version: `main` tells all others
        code = ExitCode.SAVE_FAILED
        with suppress(OSError):
            print(f"atp: standard output: {error.strerror}.", file=sys.stderr)  # noqa: T201  (no log)
    with suppress(OSError):
        sys.stderr.flush()
    os._exit(code)


def _dispatch(argv: list[str], stop: StopRequest) -> int:
    try:
        arguments = docopt(USAGE, argv, default_help=False)
    except DocoptExit as error:
        raise _usage_error(argv) from error
    check_options(next(command for command in OPTIONS_OF if arguments[command]), arguments)
    if arguments["merge"]:
        from atp.merge.command import merge  # noqa: PLC0415  (start-up stays light)

        with stop.unwinding():
            code, paths = merge(*merge_sources(arguments))
        _print(*paths)
        return code
    if arguments["intervene"]:
        from atp.intervention.command import compare, intervene  # noqa: PLC0415

        with stop.unwinding():
            if arguments["--compare"]:
                code, paths = ExitCode.OK, compare(compare_sources(arguments))
            else:
                code, paths = intervene(*intervene_sources(arguments))
        _print(*paths)
        return code
    settings = from_sources(arguments)
    if arguments["check"]:
        from atp.check.command import check  # noqa: PLC0415
        from atp.check.report import as_json, as_text  # noqa: PLC0415

        report = check(settings)
        _print(as_json(report) if settings.json else as_text(report))
        return ExitCode(report["exit_code"])
    if arguments["bench"]:
        from atp.bench.command import bench  # noqa: PLC0415

        with stop.unwinding():
            table, path = bench(settings)
        _print(table, "", path)  # the last line is the path, as of `run`
        return ExitCode.OK
    if arguments["fetch"]:
        from atp.fetch.command import fetch  # noqa: PLC0415  (start-up stays light)

        if records := fetch(settings, stop):
            _print(*records)
        return ExitCode.OK

    from atp.run import run  # noqa: PLC0415  (after the arguments: start-up stays light)

    code, paths = run(settings, stop)
    _print(*paths)
    return code


def _print(*lines: object) -> None:
    """Write lines to standard output, which carries results and nothing else."""
    try:
        print(*lines, sep="\n", flush=True)  # noqa: T201
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python tries again
        msg = f"standard output could not be written: {error.strerror or error}."
        raise SaveError(
            msg, f"What it was to end with: {str(lines[-1]).splitlines()[-1]}"
        ) from error


def _report(error: AtpError) -> None:
    """Say in one line what is wrong and what to do."""
    if sys.stderr.isatty():
        from atp.log import without_secrets  # noqa: PLC0415

        print(without_secrets(f"atp: {error}"), file=sys.stderr)  # noqa: T201
        return
    import structlog  # noqa: PLC0415

    structlog.get_logger().error(
        "atp.failed", message=error.message, hint=error.hint, exit_code=int(error.exit_code)
    )


def _usage_error(argv: list[str]) -> SettingsError:
    """Say what about the command line is wrong, as far as can be told."""
    options = set(re.findall(r"--[a-z][a-z-]*", USAGE))
    takes_value = set(re.findall(r"(--[a-z][a-z-]*)=", USAGE))
    if not argv or argv[0] not in OPTIONS_OF:
        msg = f"{argv[0]!r} is not a command." if argv else "no command is given."
        return SettingsError(msg, "Write atp run INPUT; atp --help tells the rest.")
    for argument in argv[1:]:
        name, equals, _ = argument.partition("=")
        if not name.startswith("--"):
            continue
        if name not in options:
            return SettingsError(f"there is no option {name}.", did_you_mean(name, options))
        if equals and name not in takes_value:
            return SettingsError(f"{name} takes no value.")
        if name != "--sae" and sum(other.partition("=")[0] == name for other in argv) > 1:
            return SettingsError(f"{name} is given twice.")
    if argv[-1] in takes_value:
        return SettingsError(f"{argv[-1]} needs a value.", f"Write {argv[-1]}=VALUE.")
    form = {
        "fetch": "[options]",
        "merge": "RESULT... [--out=DIR]",
        "intervene": "[INPUT] [options], or --compare BEFORE AFTER [--out=DIR]",
    }.get(argv[0], "[INPUT] [options]")
    msg = f"{' '.join(argv)!r} does not fit the usage: atp {argv[0]} {form}."
    return SettingsError(msg, "See atp --help.")
