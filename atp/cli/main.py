"""The command line: argv and environment -> Settings; picks the command.

Nothing here imports torch, and --help not even what writes the log: it answers at once.
"""

from __future__ import annotations

import os
import re
import sys
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

from docopt import DocoptExit, docopt

from atp import __version__
from atp.cli.options import (
    OPTIONS_OF,
    check_options,
    compare_sources,
    features_sources,
    from_sources,
    intervene_sources,
    merge_sources,
)
from atp.cli.usage import USAGE
from atp.errors import AtpError, ExitCode, SaveError, SettingsError, UnavailableError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from atp.runtime.signals import StopRequest

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

    from atp.runtime.log import configure  # noqa: PLC0415  (as structlog)
    from atp.runtime.signals import stop_on_signal  # noqa: PLC0415  (as structlog)

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
    if any(arguments[command] for command in ("merge", "features", "intervene")):
        return _after_runs(arguments, stop)
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

    from atp.run.command import run  # noqa: PLC0415  (after the arguments: start-up stays light)

    code, paths = run(settings, stop)
    _print(*paths)
    return code


def _after_runs(arguments: dict[str, Any], stop: StopRequest) -> int:
    """Run a command that takes what runs have written."""
    code, problem = ExitCode.OK, None
    with stop.unwinding():
        if arguments["merge"]:
            from atp.merge.command import merge  # noqa: PLC0415  (start-up stays light)

            code, paths = merge(*merge_sources(arguments))
        elif arguments["features"]:
            from atp.features.command import features  # noqa: PLC0415

            paths, problem = features(*features_sources(arguments))
        elif arguments["--compare"]:
            from atp.intervention.command import compare  # noqa: PLC0415

            paths = compare(compare_sources(arguments))
        else:
            from atp.intervention.command import intervene  # noqa: PLC0415

            code, paths = intervene(*intervene_sources(arguments))
    _print(*paths)
    if problem is not None:
        raise problem
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
        from atp.runtime.log import without_secrets  # noqa: PLC0415

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
        "features": "RESULT... [options]",
        "intervene": "[INPUT] [options], or --compare BEFORE AFTER [--out=DIR]",
    }.get(argv[0], "[INPUT] [options]")
    msg = f"{' '.join(argv)!r} does not fit the usage: atp {argv[0]} {form}."
    return SettingsError(msg, "See atp --help.")
