"""The command line: runs a command, prints its result, and turns faults into exit codes.

Nothing here imports torch, and `--help` does not import structlog: it answers at once.
"""

from __future__ import annotations

import os
import sys
import uuid
from contextlib import suppress
from pathlib import Path
from shutil import get_terminal_size
from traceback import extract_tb
from typing import TYPE_CHECKING, NoReturn, TextIO, cast, get_args

from atp import __version__
from atp.cli import build_settings
from atp.cli.arguments import Given, read
from atp.cli.commands import COMMANDS
from atp.cli.usage import OVERVIEW, WIDTH, help_text
from atp.config.general import LogFormat
from atp.errors import AtpError, ExitCode, SaveError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from atp.runtime.signals import StopRequest

OUT_OF_MEMORY = "Add memory, or lower --batch-tokens; what was computed is saved."


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code; no traceback is printed."""
    argv = list(sys.argv[1:] if argv is None else argv)
    _open_what_was_closed()
    if not argv or {"--help", "-h"} & set(argv):
        _show_help(next((word for word in argv if word in COMMANDS), None))
        return ExitCode.OK
    if argv == ["--version"]:
        print(__version__)  # noqa: T201
        return ExitCode.OK

    import structlog  # half of the start-up time

    from atp.runtime.log import configure
    from atp.runtime.signals import stop_on_signal

    run_id = uuid.uuid4().hex[:12]
    configure(run_id, _log_format(argv))  # for what is wrong with the command line itself
    try:
        with stop_on_signal() as stop:
            given = read(argv)
            general = given.general
            configure(run_id, general.log_format, quiet=general.quiet, verbose=general.verbose)
            for variable in given.unknown_variables:
                structlog.get_logger().warning("settings.unknown", variable=variable)
            code, lines = _result(given, stop)
            if lines:
                _print(*lines)
            if code in {ExitCode.OK, ExitCode.PAIRS_FAILED}:
                _summarise(given, lines)
            return code
    except AtpError as error:
        _report(error)
        return error.exit_code
    except MemoryError:
        _report(UnavailableError("the machine has no memory left.", OUT_OF_MEMORY))
        return ExitCode.UNAVAILABLE
    except Exception as error:  # noqa: BLE001  (a user never sees a traceback)
        frame = extract_tb(error.__traceback__)[-1]
        structlog.get_logger().error(
            "atp.bug",
            error=f"{type(error).__name__}: {error}",
            where=f"{frame.filename}:{frame.lineno}",
            hint="This is a fault of atp: please report this line. What was computed is saved.",
        )
        return ExitCode.BUG


def _open_what_was_closed() -> None:
    """Give the process a standard output and error, if it was started without."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115  (it stays)


def _log_format(argv: Sequence[str]) -> str:
    """Return the log's format before the command line is read."""
    given = [word.partition("=")[2] for word in argv if word.startswith("--log-format=")]
    wanted = [*given, os.environ.get("ATP_LOG_FORMAT", "")][0]
    return wanted if wanted in get_args(LogFormat) else "auto"


def command() -> NoReturn:
    """End the process with the exit code of `main`.

    Python needs a second and a half to unload torch, which a machine that is about to be taken
    away may not have. Every file is closed by now.
    """
    try:
        code = main()
        sys.stdout.flush()
    except OSError as error:  # of --help and --version; `main` reports all others
        code = ExitCode.SAVE_FAILED
        with suppress(OSError):
            print(f"atp: standard output: {error.strerror}.", file=sys.stderr)  # noqa: T201  (no log)
    with suppress(OSError):
        sys.stderr.flush()
    os._exit(code)


def _show_help(name: str | None) -> None:
    """Print the help text of atp or of a command; on a terminal, by the page."""
    if not sys.stdout.isatty():
        print(OVERVIEW if name is None else help_text(name), end="")  # noqa: T201
        return
    from pydoc import pager

    columns, _ = get_terminal_size()
    os.environ.setdefault("LESS", "FRX")  # less prints a text that fits, and ends
    pager(OVERVIEW if name is None else help_text(name, min(columns, WIDTH)))


def _result(given: Given, stop: StopRequest) -> tuple[int, Sequence[object]]:
    """Run a command; return the exit code, and the lines for standard output."""
    code: int = ExitCode.OK
    lines: Sequence[object]
    match given.command:
        case "check":
            from atp.check.command import check
            from atp.check.report import as_json, as_text

            settings = build_settings.run_settings(given)
            report = check(settings, build_settings.own_run_settings(given))
            code = report["exit_code"]
            lines = [as_json(report) if settings.json else as_text(report)]
        case "fetch":
            from atp.fetch.command import fetch

            lines = fetch(build_settings.run_settings(given), stop)
        case "bench":
            from atp.bench.command import bench

            with stop.unwinding():
                table, path = bench(build_settings.run_settings(given))
            lines = [table, "", path]
        case "merge" | "features" | "report":
            with stop.unwinding():
                code, lines = _from_results(given)
        case "intervene":
            from atp.intervention.command import intervene

            with stop.unwinding():
                chosen = build_settings.intervention_settings(given)
                code, lines = intervene(build_settings.run_settings(given), chosen)
        case "intervene --compare":
            from atp.intervention.command import compare

            with stop.unwinding():
                lines = compare(build_settings.comparison_settings(given))
        case "rescore":
            from atp.rescore.command import rescore

            code, lines = rescore(build_settings.rescore_settings(given), stop)
        case "saes" | "config" | "completion":
            lines = [_text(given)]
        case _:
            from atp.run.command import run

            own = build_settings.own_run_settings(given)
            code, lines = run(build_settings.run_settings(given), stop, own)
            if given.options.get("report") and code in {ExitCode.OK, ExitCode.PAIRS_FAILED}:
                with stop.unwinding():
                    lines = _with_report(given, cast("Sequence[Path]", lines))
    return code, lines


def _from_results(given: Given) -> tuple[int, Sequence[object]]:
    """Run a command that reads results; return as `_result` does."""
    results, out = build_settings.results_and_out(given)
    if given.command == "merge":
        from atp.merge.command import merge

        return merge(results, out)
    selection = build_settings.selection_settings(given)
    if given.command == "report":
        from atp.report.command import report

        return ExitCode.OK, report(results, out, selection, build_settings.report_settings(given))
    from atp.features.command import features

    lines, problem = features(results, out, selection)
    if problem is not None:
        _print(*lines)
        _summarise(given, lines)
        raise problem
    return ExitCode.OK, lines


def _with_report(given: Given, results: Sequence[Path]) -> Sequence[Path]:
    """Write the report of a run that has ended, and list it; return all files, the report last."""
    from atp.config.selection import SelectionSettings
    from atp.report.command import report
    from atp.report.index import write_index

    try:
        own = build_settings.report_settings(given)
        pages = report(results, results[0].parent, SelectionSettings(), own)
        write_index(results[0].parent)
    except AtpError:
        _print(*results)  # they are whole
        raise
    return [*results, *pages]


def _text(given: Given) -> str:
    """Return the text of a command that only prints one."""
    arguments = given.arguments
    if given.command == "config":
        return build_settings.in_force([arguments["COMMAND"], *arguments["ARGUMENT"]])
    if given.command == "completion":
        from atp.cli.completion import completion

        return completion(arguments["SHELL"])
    from atp.saes.command import saes
    from atp.saes.report import as_json, as_text

    found = saes(arguments["MODEL"])
    return as_json(found) if given.options.get("json") else as_text(found)


def _print(*lines: object) -> None:
    """Write the result to standard output; nothing else is written there."""
    try:
        print(*lines, sep="\n", flush=True)  # noqa: T201
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python tries again
        msg = f"standard output could not be written: {error.strerror or error}."
        raise SaveError(msg, f"Its last line: {str(lines[-1]).splitlines()[-1]}") from error


def _summarise(given: Given, lines: Sequence[object]) -> None:
    """Say to a person what a command found, and what to type next."""
    from atp.runtime.log import shown

    if shown().console and not shown().quiet:
        from rich.console import Console
        from rich.text import Text

        from atp.cli.summary import summary
        from atp.runtime.live import Terminal

        console = Console(file=cast("TextIO", Terminal()))
        console.print()
        paths = [line for line in lines if isinstance(line, Path)]
        for label, text in summary(given, paths):
            console.print(Text.assemble((label, "bold cyan"), text), soft_wrap=True)


def _report(error: AtpError) -> None:
    from atp.runtime.log import Stderr, shown, without_secrets

    if shown().console:
        Stderr().write(without_secrets(f"atp: {error}\n"))
        return
    import structlog

    structlog.get_logger().error(
        "atp.failed", message=error.message, hint=error.hint, exit_code=int(error.exit_code)
    )
