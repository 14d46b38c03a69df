"""The report as one HTML page: it needs no network, and runs no script but its own.

The file begins with the answer as plain HTML, so that it is read before anything is decoded. The
page's data and scripts follow; `page/main.js` then draws the views.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from functools import cache, partial
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import vl_convert
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from atp.report.texts import text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

FOLDER = Path(__file__).parent / "page"
STYLES = ("page", "tables", "features", "views", "print")  # a later one overrules
LANGUAGE = "en"  # of the page before its script runs
IMPORT = re.compile(r'^import \{([^}]*)\} from "\./(\w+)\.js";\n', re.MULTILINE)
EXPORT = re.compile(r"^export ((?:async )?(?:function\*?|const|let|class) (\w+))", re.MULTILINE)


def page(overview: Mapping[str, Any], blocks: Mapping[str, str]) -> str:
    """Return the page with its data; a block is base64, by the id of its element."""
    # JSON, and no text in it can end the element that holds it.
    island = json.dumps(overview, allow_nan=False).replace("<", "\\u003c")
    return render(
        "page.html.j2",
        {"modules": joined_modules(), "library": _library()},
        overview=overview,
        island=Markup(island),  # noqa: S704
        blocks={name: Markup(block) for name, block in blocks.items()},  # noqa: S704 - base64
    )


def render(template: str, scripts: Mapping[str, str], **values: object) -> str:
    """Return a page of `page/`, which runs these scripts alone and loads nothing."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.globals |= {"t": _translated, "text": partial(text, language=LANGUAGE)}
    environment.filters["number"] = _number
    style = "".join((FOLDER / f"{name}.css").read_text(encoding="utf-8") for name in STYLES)
    return environment.get_template(template).render(
        scripts={name: Markup(script) for name, script in scripts.items()},  # noqa: S704 - ours
        style=Markup(style),  # noqa: S704 - ours
        policy=Markup(_policy(scripts.values(), style)),  # noqa: S704 - ours
        **values,
    )


@cache
def joined_modules() -> str:
    """Return main.js and all modules that it needs as one, each after those that it imports.

    A module becomes a function of its own, which returns what the module exports.
    """
    sources: dict[str, str] = {}
    imports: dict[str, list[str]] = {}
    waiting = ["main"]
    while waiting:
        name = waiting.pop()
        if name not in sources:
            sources[name] = (FOLDER / f"{name}.js").read_text(encoding="utf-8")
            imports[name] = [module for _, module in IMPORT.findall(sources[name])]
            waiting += imports[name]
    order = TopologicalSorter(imports).static_order()
    return "".join(_as_function(name, sources[name]) for name in order)


def _as_function(name: str, source: str) -> str:
    exported = ", ".join(found[2] for found in EXPORT.finditer(source))
    body = IMPORT.sub(r"const {\1} = from_\2;\n", EXPORT.sub(r"\1", source))
    return f"const from_{name} = (() => {{\n{body}return {{ {exported} }};\n}})();\n"


@cache
def _library() -> str:
    """Return Vega, Vega-Lite and vega-embed; their names stay inside, except window.vegaEmbed."""
    bundle: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    # As text of a script: in a string or a regular expression, \x3c is the same sign.
    bundle = re.sub(r"<(?=/script|!--)", r"\\x3c", bundle, flags=re.IGNORECASE)
    return f"(()=>{{{bundle}\n}})();"


def _policy(scripts: Iterable[str], style: str) -> str:
    """Return the content security policy: these scripts, this style, and nothing from outside."""
    allowed = " ".join(map(_source, scripts)) or "'none'"
    return (
        f"default-src 'none'; script-src {allowed}; style-src {_source(style)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _source(content: str) -> str:
    """Return what the policy calls an inline script or style."""
    digest = hashlib.sha256(content.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _translated(key: str, **values: object) -> Markup:
    """Return a text of the interface in an element that the script can translate."""
    content = text(key, LANGUAGE, **values)
    return Markup('<span data-t="{}">{}</span>').format(key, content)


def _number(value: float | None) -> str:
    """Return a signed number with four digits, for reading."""
    return "–" if value is None else f"{value:+.4g}".replace("-", "−")  # noqa: RUF001
