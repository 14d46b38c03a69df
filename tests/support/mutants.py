"""Hostile input files: real ones, changed at random in their bytes or in their content.

The same seed gives the same file, whatever else was made before.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable, Sequence
from typing import Any

from rules import Object


class Raw(str):
    """A piece of JSON text that is written as it is, valid or not."""

    __slots__ = ()


Base = tuple[str, bytes]
"""The ending of a file's name, and its content."""

STRINGS = (
    "",
    " ",
    "0",
    "1",
    "\t\n ",
    "<bos>",
    "<bos><bos>",
    "<pad>",
    "<eos><pad><bos>",
    "<user></user>\n<model>\n",
    "e\u0301\u0301\u0301",
    "\u0301",
    "\u202e\u200f\u0646\u0635",
    "👩‍👩‍👧",
    "\x00\x01\x1b[31m\x7f",
    "\ufeff\ufffe\uffff",
    "\u2028\u2029\x85",
    "\ud7ff\ue000",
    "ﬁİß",
    "\r\n",
    "{{ 7 * 7 }}{% endfor %}",
    "\\" * 999,
    '"' * 99,
    "Ω" * 3000,
    "9" * 20_000,
    "the argument " * 200,
)
FLAGS = (
    *("1", "0", "true", "false", "null", "1.0", "0.0", "1e0", "1.00", "-0", "2", "-1", "0.5"),
    *('"1"', '"0"', '"true"', '" TRUE "', '"yes"', '""', '"None"', '"1\\n"', '"１"', "[]", "{}"),
)
TEMPLATES = (
    *('"base"', '"(base)"', '"BASE"', '" base "', '""', '"  "', "null", "0", "false", "[]"),
    *('"bаse"', '"base\\u200b"', '"I really like"', '"\\u0000"'),
)
LITERALS = (
    *("1e999", "-1e-999", "-0.0", "-0", "1E400", "1.10", "0.1e-7", "18446744073709551616"),
    *("true", "false", "null", "[]", "{}", "[[], {}]", '{"": ""}', "9" * 400, "9" * 5000),
    *("9" * 10_001, "0." + "3" * 30_000, "1e99999999999999999999", "NaN", "-Infinity", "nan"),
    *("01", "1.", ".5", "+1", "0x10", "'text'", "undefined", "/* 1 */ 1", "1 2", "", ","),
    *('"\\ud83d\\ude00"', '"\\u0000"', '"\\ud800"', '"\\udc00x"', '"\\ude00\\ud83d"', '"\\x"'),
    *('{"a": 1, "a": 2}', '{"é": 1, "e\\u0301": 2}', '"tab\there"'),
)
NAMES = (
    *("prompt", "response", "sycophancy_flag", "template_type", "variations", "results", ""),
    *("metadata", "atp_analysis", "atp", "results.item", "item", "Prompt", "a.b", "\x00", "é"),
    *("e\u0301", "k" * 70_000),
)
SPOTS = (
    *(b"\x00", b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xe4\xbd", b"\\"),
    *(b'"', b"{", b"}", b"[", b"]", b",", b":", b"\n", b"\r", b"\x0b", b"\\u", b"\\ud83d", b"//"),
    *(b"\xef\xbb\xbf", b"NaN", b"-", b"e", b"9" * 50),
)


def mutant(seed: int, bases: Sequence[Base]) -> Base:
    """Return one hostile file."""
    rng = random.Random(seed)  # noqa: S311  (not for secrets)
    ending, data = rng.choice(bases)
    if rng.random() < 0.7:
        top = _tree(ending, data)
        for _ in range(rng.choice((1, 1, 2, 3))):
            rng.choice(IN_CONTENT)(rng, top)
        data = _written(rng, ending, top)
    else:
        _, other = rng.choice(bases)
        for _ in range(rng.choice((1, 1, 2, 5))):
            data = rng.choice(IN_BYTES)(rng, data, other)
    if rng.random() < 0.02:
        ending = ".json" if ending == ".jsonl" else ".jsonl"
    return ending, data


# --- in what a file says


def _tree(ending: str, data: bytes) -> Object:
    if ending == ".json":
        top: Object = json.loads(data, object_pairs_hook=Object)
        return top
    lines = [json.loads(line, object_pairs_hook=Object) for line in data.splitlines()]
    return Object([("results", lines)])


def _written(rng: random.Random, ending: str, top: Object) -> bytes:
    ascii_only, spread = rng.random() < 0.5, rng.random() < 0.5
    results = top.get("results")
    if ending == ".jsonl" and isinstance(results, list):
        return "\n".join(_text(item, ascii_only=ascii_only) for item in results).encode()
    indent = "\n" if spread else ""
    return _text(top, ascii_only=ascii_only, newline=indent).encode(errors="surrogatepass")


def _text(value: Any, *, ascii_only: bool, newline: str = "") -> str:
    if isinstance(value, Raw):
        return value
    if not isinstance(value, list):
        return json.dumps(value, ensure_ascii=ascii_only)
    inner = newline + "  " if newline else ""
    if isinstance(value, Object):
        parts = [
            f"{_text(key, ascii_only=ascii_only)}: "
            + _text(item, ascii_only=ascii_only, newline=inner)
            for key, item in value
        ]
        return "{" + inner + f",{inner}".join(parts) + newline + "}"
    parts = [_text(item, ascii_only=ascii_only, newline=inner) for item in value]
    return "[" + inner + f",{inner}".join(parts) + newline + "]"


def _containers(value: Any) -> list[Any]:
    """Return every object and list that is not empty, the outermost first."""
    found = [value] if value else []
    for item in value:
        part = item[1] if isinstance(item, tuple) else item
        if isinstance(part, list):
            found += _containers(part)
    return found


def _variations(top: Object) -> list[Object]:
    """Return every variation of every question, as far as there are any."""
    results = top.get("results")
    questions = results if isinstance(results, list) else []
    lists = [each.get("variations") for each in questions if isinstance(each, Object)]
    return [each for some in lists if isinstance(some, list) for each in some if _is_object(each)]


def _is_object(value: Any) -> bool:
    return isinstance(value, Object)


def _put(container: Any, place: int, value: Any) -> None:
    old = container[place]
    container[place] = (old[0], value) if isinstance(old, tuple) else value


def _set(thing: Object, name: str, value: Any) -> None:
    for place, (key, _) in enumerate(thing):
        if key == name:
            thing[place] = (key, value)
            return
    thing.append((name, value))


def _odd(rng: random.Random) -> Any:
    """Return a value that no program expects."""
    kind = rng.random()
    if kind < 0.4:
        return rng.choice(STRINGS)
    if kind < 0.8:
        return Raw(rng.choice(LITERALS))
    levels = rng.choice((3, 60, 150, 197, 198, 199, 200, 201, 300, 5000))
    opening, closing = rng.choice((("[", "]"), ('{"a":', "}")))
    return Raw(opening * levels + "1" + closing * levels)


def _replace(rng: random.Random, top: Object) -> None:
    container = rng.choice(_containers(top) or [Object([("", "")])])
    _put(container, rng.randrange(len(container)), _odd(rng))


def _remove(rng: random.Random, top: Object) -> None:
    container = rng.choice(_containers(top) or [Object([("", "")])])
    del container[rng.randrange(len(container))]


def _repeat(rng: random.Random, top: Object) -> None:
    """Give an element of a list, or a member of an object, twice."""
    container = rng.choice(_containers(top) or [Object([("", "")])])
    container.insert(rng.randrange(len(container)), rng.choice(container))


def _rename(rng: random.Random, top: Object) -> None:
    objects = [each for each in _containers(top) if isinstance(each, Object)]
    if objects:
        thing = rng.choice(objects)
        place = rng.randrange(len(thing))
        thing[place] = (rng.choice(NAMES), thing[place][1])


def _add(rng: random.Random, top: Object) -> None:
    objects = [each for each in _containers(top) if isinstance(each, Object)]
    if objects:
        thing = rng.choice(objects)
        thing.insert(rng.randrange(len(thing)), (rng.choice(NAMES), _odd(rng)))


def _wrap(rng: random.Random, top: Object) -> None:
    """Put a list or an object around a value."""
    container = rng.choice(_containers(top) or [Object([("", "")])])
    place = rng.randrange(len(container))
    old = container[place]
    value = old[1] if isinstance(old, tuple) else old
    _put(container, place, rng.choice(([value], Object([("0", value)]))))


def _shuffle(rng: random.Random, top: Object) -> None:
    rng.shuffle(rng.choice(_containers(top) or [[]]))


def _swap(rng: random.Random, top: Object) -> None:
    """Exchange two values from anywhere, their kinds with them."""
    containers = _containers(top)
    if containers:
        one, other = rng.choice(containers), rng.choice(containers)
        i, j = rng.randrange(len(one)), rng.randrange(len(other))
        first = one[i][1] if isinstance(one[i], tuple) else one[i]
        second = other[j][1] if isinstance(other[j], tuple) else other[j]
        if not (isinstance(first, list) or isinstance(second, list)):  # no value inside itself
            _put(one, i, second)
            _put(other, j, first)


def _of_a_variation(rng: random.Random, top: Object) -> None:
    """Give one variation an odd field of those that atp reads."""
    variations = _variations(top)
    if not variations:
        return
    thing, name = rng.choice(variations), rng.choice(("prompt", "response", "flag", "template"))
    if name == "flag":
        _set(thing, "sycophancy_flag", Raw(rng.choice(FLAGS)))
    elif name == "template":
        _set(thing, "template_type", Raw(rng.choice(TEMPLATES)))
    elif rng.random() < 0.5:
        text, more = str(thing.get(name)), rng.choice(STRINGS)
        _set(thing, name, rng.choice((text + more, more + text, text[:5] + more + text[5:])))
    else:
        _set(thing, name, _odd(rng))


def _same_answers(rng: random.Random, top: Object) -> None:
    variations = _variations(top)
    for thing in variations:
        _set(thing, "response", variations[0].get("response"))


def _many_variations(rng: random.Random, top: Object) -> None:
    for thing in _variations(top)[:1]:
        results = top.get("results")
        plain = Object([*thing.without("sycophancy_flag"), ("sycophancy_flag", 0)])
        if len(repr(plain)) > 10_000:
            continue
        questions = [each for each in results if isinstance(each, Object)]
        question = rng.choice(questions)
        if isinstance(question.get("variations"), list):
            question.get("variations").extend(Object(plain) for _ in range(rng.choice((100, 3000))))


def _no_variations(rng: random.Random, top: Object) -> None:
    for question in top.get("results") or []:
        if isinstance(question, Object) and rng.random() < 0.5:
            _set(question, "variations", [])


def _long_text(rng: random.Random, top: Object) -> None:
    """One text, answer or prompt, of a megabyte or of its own length many times over."""
    variations = _variations(top)
    if variations:
        thing, name = rng.choice(variations), rng.choice(("prompt", "response", "note"))
        text = rng.choice((str(thing.get(name)), "a", "詩", " ", "\\", "<bos>", "9"))
        _set(thing, name, text * (rng.choice((20_000, 20_000, 1_000_000)) // max(1, len(text))))


def _by_name(rng: random.Random, top: Object) -> None:
    """Turn `results` into an object, as some programs write a table."""
    results = top.get("results")
    if isinstance(results, list):
        _set(top, "results", Object((str(n), item) for n, item in enumerate(results)))


IN_CONTENT: tuple[Callable[[random.Random, Object], None], ...] = (
    *(_of_a_variation,) * 8,
    *(_replace, _replace, _remove, _repeat, _rename, _add, _add, _wrap, _shuffle, _swap),
    *(_same_answers, _many_variations, _no_variations, _long_text, _by_name),
)


# --- in its bytes


def _somewhere(rng: random.Random, data: bytes) -> tuple[int, int]:
    start = rng.randrange(len(data) + 1)
    return start, min(len(data), start + rng.choice((1, 1, 2, 10, 300)))


def _flip(rng: random.Random, data: bytes, _: bytes) -> bytes:
    start, end = _somewhere(rng, data)
    flipped = bytes(byte ^ 1 << rng.randrange(8) for byte in data[start : min(end, start + 3)])
    return data[:start] + flipped + data[start + len(flipped) :]


def _drop(rng: random.Random, data: bytes, _: bytes) -> bytes:
    start, end = _somewhere(rng, data)
    return data[:start] + data[end:]


def _insert(rng: random.Random, data: bytes, _: bytes) -> bytes:
    start, _end = _somewhere(rng, data)
    return data[:start] + rng.choice(SPOTS) * rng.choice((1, 1, 2, 9)) + data[start:]


def _cut(rng: random.Random, data: bytes, _: bytes) -> bytes:
    return data[: _somewhere(rng, data)[0]]


def _double(rng: random.Random, data: bytes, _: bytes) -> bytes:
    start, end = _somewhere(rng, data)
    return data[:end] + data[start:]


def _splice(rng: random.Random, data: bytes, other: bytes) -> bytes:
    return data[: _somewhere(rng, data)[0]] + other[_somewhere(rng, other)[0] :]


def _recode(rng: random.Random, data: bytes, _: bytes) -> bytes:
    """Write the whole text in another way, as editors and other systems do."""
    ways: tuple[Callable[[bytes], bytes], ...] = (
        lambda data: data.replace(b"\n", b"\r\n"),
        lambda data: data.replace(b"\n", b"\r"),
        lambda data: b"\xef\xbb\xbf" + data,
        lambda data: data.decode(errors="replace").encode("utf-16"),
        lambda data: data.decode(errors="replace").encode("utf-16-le"),
        lambda data: data.decode(errors="replace").encode("utf-32"),
        lambda data: data.decode(errors="replace").encode("latin-1", "replace"),
        lambda data: gzip.compress(data, mtime=0),
        lambda data: data.replace(b'"', b"'"),
        lambda data: data.replace(b"1", b"NaN", 1),
        lambda data: data.replace(b" ", b"\x0c"),
        lambda data: data.replace(b"}", b",}"),
        lambda data: b"// a comment\n" + data,
        lambda data: data + b"\n\n\x00",
        lambda data: data + data,
        lambda data: b"[" + data + b"]",
        lambda data: b"",
    )
    return rng.choice(ways)(data)


IN_BYTES: tuple[Callable[[random.Random, bytes, bytes], bytes], ...] = (
    *(_flip, _flip, _drop, _insert, _insert, _cut, _double, _splice, _recode, _recode),
)
