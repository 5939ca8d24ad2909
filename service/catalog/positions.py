"""YAML to plain Python, remembering where everything stood.

Where on the path: first step of `catalog.load`; its `Document` answers "which line is that?" for every later check.

Invariants
1. No YAML tag is ever honoured: values are None, bool, int, Decimal, str, list and dict, and nothing else.
2. A decimal number keeps its exact digits (`Decimal`); binary floats never appear.
3. Every limit below holds before the memory or the stack is spent; aliases count as if written out.
4. Only the plain spellings of YAML 1.2 are special: `no` is a word (Norwegian), `01:30` is a word, `1e-6` is a word.
   YAML 1.1 and 1.2 read these differently, and a price must not depend on the reader.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import NoReturn

import yaml

from service.catalog.problems import Path, Problems

MAX_FILE_BYTES = 4 * 1024 * 1024
"""Size of the file: 20 times the shipped registry."""

MAX_DEPTH = 32
"""Nesting of mappings and lists: the schema needs 9."""

MAX_NODES = 200_000
"""Values in the file with every alias written out: 20 times the shipped registry."""

MAX_ALIASES = 1_000
"""Uses of YAML aliases (`*name`)."""

MAX_NUMBER_CHARS = 40
"""Length of a number: a price needs fewer than 15 characters."""

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The C scanner is 10 times faster, and takes a tab behind a closing bracket, which the other refuses."""

_NOT_TEXT = re.compile(r"[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
_LINE_BREAK = re.compile(r"\r\n|\r|\n")
_TAB_INDENT = re.compile(r"^ *\t[ \t]*(?=[^\s])", re.MULTILINE)
_WORDS: dict[str, bool | Decimal | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), Decimal("NaN")),
}
_WHOLE = re.compile(r"[-+]?(?:0|[1-9][0-9]*)\Z")
_DECIMAL = re.compile(r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)\Z")
_INFINITE = re.compile(r"([-+]?)\.(?:inf|Inf|INF)\Z")

Plain = None | bool | int | Decimal | str | list["Plain"] | dict[str, "Plain"]
Position = tuple[int, int]


class _Stop(Exception):
    """The rest of the file can't be read; the reason is among the problems already."""


@dataclass(slots=True)
class Node:
    """A value of the file: `value` in plain Python, `children` by key or index, `keys` where each key stands.

    `size` counts values with aliases written out, `height` the levels of mappings and lists from here down.
    """

    position: Position
    value: Plain
    children: dict[str | int, Node] = field(default_factory=dict)
    keys: dict[str, Position] = field(default_factory=dict)
    size: int = 1
    height: int = 0


@dataclass(frozen=True, slots=True)
class Document:
    """A file that was read: its plain value, and where each part of it stands."""

    root: Node

    @property
    def value(self) -> Plain:
        """The whole file as plain Python."""
        return self.root.value

    def position(self, path: Path, *, of_key: bool = False) -> Position:
        """Line and column (from 1) of the value at `path`, or of its key; of the nearest ancestor when it isn't there.

        A mapping, a list or nothing below a key is shown at its key: that is where a reader looks for it.
        """
        node = self.root
        found = node.position
        for depth, step in enumerate(path):
            child = node.children.get(step)
            if child is None:
                return found
            key = node.keys.get(step) if isinstance(step, str) else None
            last = depth == len(path) - 1
            named = child.children or child.value is None or (of_key and last)
            found = key if named and key is not None else child.position
            node = child
        return found


def read(data: bytes, problems: Problems) -> Document | None:
    """The document in `data`, or `None` when it can't be read at all; what is wrong goes to `problems`."""
    text = _text(data, problems)
    if text is None:
        return None
    try:
        root = _Composer(problems).compose(yaml.parse(text, Loader=_LOADER))
    except _Stop:
        return None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
        reason = " ".join(str(part) for part in (error.context, error.problem) if part)
        hint = "check quotes, colons and indentation"
        if "${" in "".join(_LINE_BREAK.split(text)[line - 1 : line]):
            hint = 'inside [ ] and { } write "${env:NAME}" with quotes'
        problems.add(line, column, f"not valid YAML: {reason}; {hint}")
        return None
    if root is None:
        problems.add(1, 1, "the file is empty; it needs at least version, providers and models")
        return None
    return Document(root)


def _text(data: bytes, problems: Problems) -> str | None:
    """The file as text, or `None` with a problem when it isn't one that YAML may read."""
    if len(data) > MAX_FILE_BYTES:
        problems.add(1, 1, f"the file is larger than {MAX_FILE_BYTES} bytes; is this the right file?")
        return None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, column = _place(data[: error.start].decode("utf-8-sig", "replace"))
        problems.add(line, column, "not UTF-8 text; save the file as UTF-8")
        return None
    odd = _NOT_TEXT.search(text)
    if odd is not None:
        line, column = _place(text[: odd.start()])
        problems.add(line, column, f"the character U+{ord(odd[0]):04X} is not text; is this a binary file? remove it")
        return None
    tab = _TAB_INDENT.search(text)
    if tab is not None:
        line, column = _place(text[: text.index("\t", tab.start())])
        problems.add(line, column, "a tab in the indentation; YAML wants spaces")
        return None
    return text


def _place(before: str) -> Position:
    """Line and column, from 1, of what follows `before`."""
    line, start = 1, 0
    for found in _LINE_BREAK.finditer(before):
        line, start = line + 1, found.end()
    return line, len(before) - start + 1


@dataclass(slots=True)
class _Open:
    """A collection whose end has not been seen. `key` waits for its value when this is a mapping."""

    node: Node
    anchor: str | None
    is_mapping: bool
    key: str | None = None
    skip: bool = False


class _Composer:
    """Builds nodes from parser events with an explicit stack, so that no nesting can exhaust ours."""

    def __init__(self, problems: Problems) -> None:
        self._problems = problems
        self._stack: list[_Open] = []
        self._anchors: dict[str, Node | None] = {}
        self._aliases = 0
        self._nodes = 0
        self._root: Node | None = None

    def compose(self, events: Iterator[yaml.Event]) -> Node | None:
        """The root of the only document, or `None` when there is none."""
        documents = 0
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self._stop(event, "a second document starts here; keep one document in the file")
            elif isinstance(event, yaml.AliasEvent):
                self._alias(event)
            elif isinstance(event, yaml.ScalarEvent):
                self._scalar(event)
            elif isinstance(event, yaml.CollectionStartEvent):
                self._start(event)
            elif isinstance(event, yaml.CollectionEndEvent):
                self._end()
        if self._root is not None and self._root.value is None:
            return None
        return self._root

    def _stop(self, event: yaml.Event, message: str) -> NoReturn:
        self._problems.add(*_at(event), message)
        raise _Stop

    def _start(self, event: yaml.CollectionStartEvent) -> None:
        self._no_tag(event, event.tag)
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        if len(self._stack) >= MAX_DEPTH:
            self._stop(event, f"nested deeper than {MAX_DEPTH} levels; no field of this file goes that deep")
        if self._stack and self._stack[-1].is_mapping and self._stack[-1].key is None:
            self._stop(event, "a mapping or list can't be a key; use a word")
        self._count(event, 1)
        value: Plain = {} if is_mapping else []
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        self._stack.append(_Open(Node(_at(event), value, height=1), event.anchor, is_mapping))

    def _end(self) -> None:
        done = self._stack.pop()
        if done.anchor is not None:
            self._anchors[done.anchor] = done.node
        self._put(done.node)

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        self._no_tag(event, event.tag)
        top = self._stack[-1] if self._stack else None
        if top is not None and top.is_mapping and top.key is None:
            self._key(event, top)
            return
        self._count(event, 1)
        plain = not event.style
        if plain and len(event.value) > MAX_NUMBER_CHARS and re.match(r"[-+.]?[0-9][0-9.]*\Z", event.value):
            self._stop(event, f"a number longer than {MAX_NUMBER_CHARS} characters; put quotes around it if it is text")
        node = Node(_at(event), _plain(event.value) if plain else event.value)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        self._put(node)

    def _key(self, event: yaml.ScalarEvent, top: _Open) -> None:
        key = event.value
        if not event.style and key == "<<":
            self._stop(
                event, "merge keys (<<) are not supported; write the fields out or use an alias for a whole value"
            )
        if not key:
            self._stop(event, "an empty key; give it a name")
        top.key = key
        top.skip = key in top.node.keys
        if top.skip:
            first = top.node.keys[key][0]
            self._problems.add(*_at(event), f"duplicate key {key!r}, first on line {first}; remove one of them")
        else:
            top.node.keys[key] = _at(event)

    def _alias(self, event: yaml.AliasEvent) -> None:
        self._aliases += 1
        if self._aliases > MAX_ALIASES:
            self._stop(event, f"more than {MAX_ALIASES} aliases; write some of them out")
        name = event.anchor or ""
        if name not in self._anchors:
            self._stop(event, f"the alias *{name} has no anchor &{name} before it")
        node = self._anchors[name]
        if node is None:
            self._stop(event, f"the alias *{name} stands inside its own anchor; it would never end")
        if len(self._stack) + node.height > MAX_DEPTH:
            self._stop(event, f"with this alias written out the file is nested deeper than {MAX_DEPTH} levels")
        if self._stack and self._stack[-1].is_mapping and self._stack[-1].key is None:
            self._stop(event, "an alias can't be a key; use a word")
        self._count(event, node.size)
        self._put(node)

    def _put(self, node: Node) -> None:
        """Put a finished value where it belongs."""
        if not self._stack:
            self._root = node
            return
        top = self._stack[-1]
        parent = top.node
        parent.size += node.size
        parent.height = max(parent.height, node.height + 1)
        if isinstance(parent.value, list):
            parent.children[len(parent.value)] = node
            parent.value.append(node.value)
        elif isinstance(parent.value, dict) and top.key is not None:
            if not top.skip:
                parent.children[top.key] = node
                parent.value[top.key] = node.value
            top.key = None

    def _count(self, event: yaml.Event, nodes: int) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            self._stop(event, f"more than {MAX_NODES} values (aliases written out); split the file or drop aliases")

    def _no_tag(self, event: yaml.Event, tag: str | None) -> None:
        if tag is not None:
            self._stop(event, "YAML tags (!name) are not supported; remove the tag")


def _at(event: yaml.Event) -> Position:
    mark = event.start_mark
    return (1, 1) if mark is None else (mark.line + 1, mark.column + 1)


def _plain(text: str) -> Plain:
    """An unquoted scalar by the core schema of YAML 1.2, without its exponents and its octal and hex numbers."""
    if text in _WORDS:
        return _WORDS[text]
    if _WHOLE.match(text):
        return int(text)
    if _DECIMAL.match(text):
        return Decimal(text)
    infinite = _INFINITE.match(text)
    return Decimal(f"{infinite[1]}Infinity") if infinite else text
