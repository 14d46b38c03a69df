"""The report of `atp saes` as text for a person, made from the JSON object."""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import orjson

from atp.config.sae_choice import L0_SIZES, SITES, width_name
from atp.runtime.units import ranges, size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    Report = Mapping[str, Any]

WIDTH = 100


def as_json(report: Report) -> str:
    """Return the report as one JSON object."""
    return orjson.dumps(report, option=orjson.OPT_INDENT_2).decode()


def as_text(report: Report) -> str:
    """Return the report as a line for each model, or as a few lines for each release."""
    return "\n".join(_models(report) if "models" in report else _model(report))


def _models(report: Report) -> Iterator[str]:
    models = report["models"]
    width = max(len(each["model"]) for each in models)
    yield f"{'model':<{width}}{'all':>8}" + "".join(f"{site:>12}" for site in SITES)
    for each in models:
        counts = "".join(f"{each['sites'][site] or '-':>12}" for site in SITES)
        left = each["count"] - each["scored"]
        yield f"{each['model']:<{width}}{each['count']:>8}{counts}{_not_scored(left)}"
    total, scored = (sum(each[name] for each in models) for name in ("count", "scored"))
    yield ""
    yield from _wrapped(
        f"The list of SAELens {report['sae_lens']} has {total:,} dictionaries of {len(models)} "
        f"models; atp scores {scored:,} of them. atp saes MODEL lists those of a model."
    )


def _not_scored(count: int) -> str:
    return f"   {count} not scored" if count else ""


def _model(report: Report) -> Iterator[str]:
    scored = "all" if report["scored"] == report["count"] else f"{report['scored']:,}"
    yield from _wrapped(
        f"{report['model']}: {report['count']:,} dictionaries in the list of SAELens "
        f"{report['sae_lens']}; atp scores {scored}; {report['here'] or 'none'} in the hub cache"
    )
    for site, of_site in groupby(report["dictionaries"], key=itemgetter("site")):
        about = report["sites"][site]
        default = f", by default {about['default']}" if about["default"] else ""
        yield ""
        yield f"{site}: {about['count']:,}{default}"
        for release, group in groupby(of_site, key=itemgetter("release")):
            saes = list(group)
            yield from _wrapped(f"{release} ({len(saes):,}): {'; '.join(_facts(saes))}", indent=2)
    yield ""
    yield from _wrapped(_how_to_name(report))


def _facts(saes: Sequence[Report]) -> Iterator[str]:
    """Yield what the dictionaries of a release have in common, numbers as ranges."""
    yield _layers({each["layer"] for each in saes})
    widths = sorted({each["d_sae"] for each in saes if each["d_sae"]})
    yield f"{', '.join(map(width_name, widths))} features" if widths else "width in its files"
    names = ", ".join(name for name in L0_SIZES if name in {each["l0_size"] for each in saes})
    if l0s := {each["l0"] for each in saes if each["l0"] is not None}:
        yield f"L0 {_span(l0s, '{:g}'.format)}" + (f" ({names})" if names else "")
    elif names:
        yield f"L0 {names}"
    if sizes := {each["bytes"] for each in saes if each["bytes"]}:
        yield _span(sizes, size)
    for name, words in (("here", "here"), ("neuronpedia", "at Neuronpedia")):
        yield from _share(sum(bool(each[name]) for each in saes), len(saes), words)
    for reason, count in Counter(each["reason"] for each in saes if each["reason"]).items():
        yield f"{'' if count == len(saes) else f'{count} '}not scored, {reason}"


def _layers(layers: set[int | None]) -> str:
    numbers = [layer for layer in layers if layer is not None]
    words = ["embedding"] if None in layers else []
    if numbers:
        words.append(f"layer{'s' if len(numbers) > 1 else ''} {ranges(numbers)}")
    return ", ".join(words)


def _span(values: set[float], written: Callable[[float], str]) -> str:
    """Return the least and the greatest value; once if they are written alike."""
    return " to ".join(dict.fromkeys(map(written, (min(values), max(values)))))


def _share(count: int, total: int, words: str) -> Iterator[str]:
    if count:
        yield f"{'all' if count == total else count} {words}"


def _how_to_name(report: Report) -> str:
    """Say how to write a name for --sae, by an example of this model."""
    by_spec = {each["spec"]: each for each in report["dictionaries"]}
    defaults = [site["default"] for site in report["sites"].values() if site["default"]]
    example = by_spec[[*defaults, *by_spec][0]]
    pattern = re.sub(rf"(?<!\d){example['layer']}(?!\d)", "*", example["sae_id"], count=1)
    return (
        f"A name for --sae is RELEASE:SAE_ID, as in --sae={example['spec']}, or a pattern in "
        f"quotes, --sae='{example['release']}:{pattern}'. --hook-layer, --sae-width, --sae-l0 and "
        "--sae-site choose without names. --json lists every SAE_ID."
    )


def _wrapped(text: str, indent: int = 0) -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=" " * indent,
        subsequent_indent=" " * 3 * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
