"""The options of all commands, and the text of `atp --help`, which docopt reads."""

from __future__ import annotations

import textwrap

from atp.config.intervention import InterventionSettings
from atp.config.method import Method
from atp.config.option import REQUIRED, Group, Option, options_of
from atp.config.selection import SelectionSettings
from atp.config.settings import Settings

OPTIONS = {
    option.flag: option
    for settings in (Settings, Method, SelectionSettings, InterventionSettings)
    for option in options_of(settings).values()
}
WIDTH, INDENT = 100, 29

BEFORE = """atp - which features of a language model make it sycophantic

Usage:
  atp run [INPUT] [options] [--sae=SPEC]...
  atp check [INPUT] [options] [--sae=SPEC]...
  atp fetch [options] [--sae=SPEC]...
  atp bench [INPUT] [options] [--sae=SPEC]...
  atp merge RESULT... [options]
  atp features RESULT... [options]
  atp intervene [INPUT] [options] [--sae=SPEC]...
  atp intervene --compare BEFORE AFTER [options]
  atp --help
  atp --version

Commands:
  run  Score every pair of INPUT (JSON or JSON Lines) by attribution patching and write the result
       file. INPUT defaults to the newest *.json or *.jsonl under /data/input. Started again with
       the same input and settings, it resumes.
  check  Look at INPUT, names, caches, disk and device before a run. Report every problem, the
       counts that the run would have, and about how much memory, disk and time it needs. Computes
       nothing on a GPU.
  fetch  Download the model and the SAEs of a run into the hub cache, compare their hashes, and
       record them. Started again, it resumes. The run then needs no network, and keeps using these
       files until the next fetch.
  bench  Time a run on INPUT, in turn with the notebook's procedure and with a bare forward pass
       over the same tokens, and print a table. Takes several minutes. Scores are by the defaults:
       it refuses other values of --method, --baseline, --position and --metric, and --exact.
  merge  Merge the results of all shards of a run into the result of the whole run. RESULT is a
       shard's result file, or a folder that has such files in it or in its subfolders.
  features  Aggregate the scored pairs of one or more results of a model, select features of each
       SAE, and write a table as CSV and Parquet, and the selection as JSON. RESULT is a result
       file, or a folder, of which the last run is taken.
  intervene  Remove the features that atp features selected from the model, and measure how that
       changes the metric of each pair of INPUT, in comparison with random features and with those
       of the most negative scores, and how it changes the base responses. Write a report as text
       and as JSON. Model and SAEs default to those of the features file. With --compare: compare
       the flags of two labelled files, of responses before and after, and report likewise.
"""

AFTER = """  -h --help                  Show this text.
  --version                  Show the version.

Every option can come from the environment: --top-k=10 is ATP_TOP_K=10; the command line wins.
Result paths, and those of fetch's records, go to stdout, logs to stderr.

Exit codes: 0 every pair has a result (skipped pairs included), or the command is done; 1 some
pairs carry an error; 2 the usage, the settings, the input or the results to read are at fault, or
no feature is selected; 3 the model, an SAE or the device cannot be had, or (check, fetch) memory or
disk do not suffice; 74 results or the hub cache cannot be written; 75 another run holds the output
folder; 130, 143 stopped by a signal; 70 a fault of atp itself.
"""


def described(group: Group) -> str:
    """Return the part of the help text that describes the options of a group."""
    lines = [f"{group.title} (atp {', '.join(group.commands)}):"]
    for option in OPTIONS.values():
        if option.group is group:
            flag = f"{option.flag}={option.metavar}" if option.metavar else option.flag
            lines += _wrapped(f"  {flag}".ljust(INDENT), f"{option.help} {_default(option)}")
    return "\n".join(lines) + "\n"


def _default(option: Option) -> str:
    default = option.default
    if default in (REQUIRED, None, ()) or default is False:
        return ""  # the help text describes it
    if isinstance(default, tuple):
        default = ",".join(map(str, default))
    if isinstance(default, float):
        default = f"{default:g}".replace("e-0", "e-")
    return f"Default: {default}."


def _wrapped(title: str, text: str) -> list[str]:
    """Return lines of which none begins with an option: docopt would take it for a description."""
    glued = text.replace(" -", "\N{NO-BREAK SPACE}-")
    lines = textwrap.wrap(
        glued, WIDTH, initial_indent=title, subsequent_indent=" " * INDENT, break_on_hyphens=False
    )
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in lines]


USAGE = "\n".join([BEFORE, *map(described, Group), AFTER])
