"""SAELens' list of published dictionaries, read from its package: to import it takes 8 s."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from atp.errors import SettingsError
from atp.model.names import comparable, package_file

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

OWN_FORMAT = "sae_lens"
"""The loader of SAEs that SAELens itself has saved; it is not named in the list."""
NEURONPEDIA = "https://www.neuronpedia.org"
YAML = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C it reads all in half a second
OF_A_RELEASE = ("saes", "repo_id", "model", "conversion_func")


class Entry(NamedTuple):
    """What the list says of a dictionary."""

    path: str
    """Of its folder or file in the repository; CLT layers have a number."""
    l0: float | None
    page: str | None
    """Its name at Neuronpedia."""
    malformed: bool
    """Whether it holds what a release holds, or lacks what a dictionary needs."""


class Release(NamedTuple):
    """A release in the list: dictionaries of a model, in a repository of the hub, by their id."""

    name: str
    model: str
    repository: str
    loader: str
    entries: dict[str, Entry]


def release_names() -> Collection[str]:
    """Return the names of all releases."""
    return _texts().keys()


@cache
def find_release(name: str) -> Release | None:
    """Return a release; None if it is not in the list."""
    text = _texts().get(name)
    return None if text is None else _parsed(name, text)


def releases_of(models: Collection[str]) -> list[Release]:
    """Return the releases whose model is one of some, by names that `comparable` gives."""
    named = [name for name, model in _models().items() if comparable(model) in models]
    return [release for name in named if (release := _sound(name, _texts()[name])) is not None]


def counted_releases() -> Iterator[tuple[Release, int, int]]:
    """Yield each release with its first entry alone, how many it has, and how many are malformed.

    To parse all entries of all releases would take half a second.
    """
    for name in _models():
        head, *entries = re.split(r"^  - ", _texts()[name], flags=re.MULTILINE)
        release = _sound(name, "  - ".join([head, *entries[:1]]))
        if release is not None:
            yield release, len(entries), sum(map(_is_malformed, entries))


def _sound(name: str, text: str) -> Release | None:
    """Return a release; None for one that is malformed, which only its own name refuses."""
    try:
        return _parsed(name, text)
    except SettingsError:
        return None


def _parsed(name: str, text: str) -> Release:
    try:
        content = yaml.load(text, Loader=YAML)  # noqa: S506  (is a safe loader)
        return Release(
            name,
            _model(str(content["model"]), str(content["repo_id"])),
            str(content["repo_id"]),
            str(content.get("conversion_func") or OWN_FORMAT),
            {str(entry["id"]): _entry(entry) for entry in content["saes"]},
        )
    except (yaml.YAMLError, LookupError, TypeError, ValueError, AttributeError) as error:
        msg = f"SAELens' entry of the release {name!r} is malformed ({error!r})."
        raise SettingsError(msg, "Choose another release, or install another sae-lens.") from error


def _entry(entry: dict[str, Any]) -> Entry:
    l0, page = entry.get("l0"), entry.get("neuronpedia")
    return Entry(
        str(entry.get("path")),
        None if l0 is None else float(l0),
        None if page is None else str(page),
        malformed="path" not in entry or any(key in entry for key in OF_A_RELEASE),
    )


def _is_malformed(text: str) -> bool:
    """Say the same of the text of an entry."""
    keys = re.findall(r"^(?:    )?(\w+):", text, re.MULTILINE)
    return "path" not in keys or any(key in keys for key in OF_A_RELEASE)


@cache
def _texts() -> dict[str, str]:
    text = package_file("sae_lens", "pretrained_saes.yaml")
    _, *parts = re.split(r"^(\S+):$", text, flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


@cache
def _models() -> dict[str, str]:
    """Return each release's model; to parse only some of the releases takes less time."""
    models = {}
    for name, text in _texts().items():
        found = dict(re.findall(r"^  (model|repo_id): *(.+)$", text, re.MULTILINE))
        if found.keys() == {"model", "repo_id"}:
            models[name] = _model(*(found[key].strip("'\"") for key in ("model", "repo_id")))
    return models


def _model(listed: str, repository: str) -> str:
    """Return a release's model; of Gemma Scope, as its loader does: the list has a wrong one."""
    match = re.match(r"google/gemma-scope-(\d+b)-(pt|it)-", repository)
    if match is None:
        return listed
    return f"gemma-2-{match[1]}{'-it' if match[2] == 'it' else ''}"
