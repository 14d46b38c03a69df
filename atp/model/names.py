"""Names of models, checked before heavy imports: torch takes 2.6 s, SAELens 8 s."""

from __future__ import annotations

import ast
import os
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import orjson

from atp.errors import SettingsError, UnavailableError
from atp.runtime.paths import local_path

OFFLINE = "The hub was not asked (HF_HUB_OFFLINE, or an atp fetch before): run `atp fetch` again."

HUB_NAME = re.compile(r"(?=.{1,96}$)[\w.-]+(/[\w.-]+)?")


def is_local(name: str) -> bool:
    """Say whether a model name means a folder or a file of this machine."""
    looks_local = name.startswith(("/", "./", "../", "~")) or name.endswith(".gguf")
    return looks_local or os.path.lexists(name)  # False, too, for a name that no file can have


def short_name(name: str) -> str:
    """Return a model's name in results: its hub name, or the name of its folder or file."""
    return local_path(name).resolve().name.removesuffix(".gguf") if is_local(name) else name


def transformers_source(name: str, revision: str | None) -> tuple[str | Path, dict[str, Any]]:
    """Return the name and the options with which transformers loads a model."""
    if not is_local(name):
        return name, {"revision": revision}
    path = local_path(name)
    return (path.parent, {"gguf_file": path.name}) if path.is_file() else (path, {})


def check_model_name(name: str, revision: str | None = None) -> None:
    """Raise SettingsError for a local path that holds no model, or an impossible hub name."""
    if not is_local(name):
        if HUB_NAME.fullmatch(name):
            return
        msg = f"--model={name} is neither a hub name (owner/name) nor a folder or file here."
        raise SettingsError(msg)
    if revision is not None:
        msg = f"--revision={revision} is of a hub model, and --model={name} is local."
        raise SettingsError(msg, "Leave it out.")
    path = local_path(name)
    if not path.exists():
        msg = f"--model={name} does not exist."
        raise SettingsError(msg, "Name a hub model, a Hugging Face folder or a GGUF file.")
    if path.is_dir() and not _is_json_object(path / "config.json"):
        msg = f"--model={name} holds no readable config.json."
        raise SettingsError(msg, "Name a folder in Hugging Face format, or the GGUF file itself.")
    if path.is_file() and path.suffix != ".gguf":
        msg = f"--model={name} is a file, but not a GGUF file."
        raise SettingsError(msg, "Name a hub model, a Hugging Face folder or a GGUF file.")
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        if not os.access(file, os.R_OK):  # the libraries would say that it does not exist
            msg = f"--model={name}: user {os.getuid()} may not read {file.name}."
            raise SettingsError(msg, f"Open it: chmod a+r {file}")


def _is_json_object(path: Path) -> bool:
    try:
        return isinstance(orjson.loads(path.read_bytes()), dict)
    except (OSError, orjson.JSONDecodeError):
        return False


def check_same_model(model: str, trained_on: str | None, spec: str) -> None:
    """Raise SettingsError if an SAE, by its model's name in its files, is of another model."""
    if trained_on is None:
        return
    if comparable(trained_on) not in comparable_names(model):
        msg = f"--sae={spec} was trained on {trained_on}, the model is {model}."
        hint = "Choose an SAE of this model, or pass --allow-other-model if the two are close kin."
        if is_local(model):
            hint += " A folder goes by its own name and the _name_or_path in its config.json."
        raise SettingsError(msg, hint)


def comparable_names(model: str) -> set[str]:
    """Return a model's names as `comparable` gives them.

    A folder has its own name and the one in its config.json.
    """
    return set(map(comparable, _names_of(model)))


def _names_of(model: str) -> set[str]:
    if not is_local(model):
        return {model}
    path = local_path(model).resolve()
    names = {path.name, *re.findall(r"models--[^/]+--([^/]+)/snapshots", str(path))}
    if path.is_dir():
        config = orjson.loads((path / "config.json").read_bytes())
        names.add(str(config.get("_name_or_path") or path.name))
    return names


@cache
def comparable(name: str) -> str:
    """Return a model's name without owner, case, quantisation and transformer_lens' old aliases."""
    short = official_name(name).rstrip("/").rpartition("/")[2].lower().removesuffix(".gguf")
    return re.sub(r"[.-](i?q\d\w*|f16|f32|bf16)$", "", short)


def official_name(name: str) -> str:
    """Return the hub name that an old alias of transformer_lens means; of others, the name."""
    return _official_names().get(name, name)


@cache
def _official_names() -> dict[str, str]:
    """Return {old alias: official name} of transformer_lens; read from its source, not imported."""
    module = ast.parse(package_file("transformer_lens", "supported_models.py"))
    table = next(
        ast.literal_eval(statement.value)
        for statement in module.body
        if isinstance(statement, ast.AnnAssign)
        and statement.value is not None
        and ast.unparse(statement.target) == "MODEL_ALIASES"
    )
    return {alias: official for official, aliases in table.items() for alias in aliases}


def package_file(package: str, name: str) -> str:
    """Return the text of a file of an installed package without importing the package."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        msg = f"the package {package} is not installed."
        raise UnavailableError(msg, "Run `make install`.")
    return (Path(spec.submodule_search_locations[0]) / name).read_text(encoding="utf-8")
