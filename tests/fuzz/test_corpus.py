"""Every seed, and every input that ever broke a promise, through its target; then small changes of them. I21.

`tests/fuzz/run.py` looks for more, guided by what of the code an input reaches. What it finds is kept among the seeds.
"""

from __future__ import annotations

import itertools
import json

import pytest
from fuzz import blind, targets
from fuzz.targets import TARGETS

from service.api import chat_body
from service.domain.rawjson import RawObject
from service.errors import RegistryError
from service.upstream.sse import SseTap

CHANGED = {"sse": 150, "request": 1_500, "registry": 600}
EVERY = pytest.mark.parametrize("target", TARGETS)


@EVERY
def test_every_seed_is_as_promised(target):
    """One that is not names itself."""
    for name, data in blind.seeds(target).items():
        try:
            TARGETS[target](data)
        except Exception as problem:
            raise AssertionError(f"{target}/{name}: {problem!r}") from problem


@EVERY
def test_small_changes_of_the_seeds_are_too(target):
    """The same ones on every run."""
    for number, data in enumerate(itertools.islice(blind.inputs(target, 1), CHANGED[target])):
        try:
            TARGETS[target](data)
        except Exception as problem:
            raise AssertionError(f"change {number} of {target}: {data!r}: {problem!r}") from problem


@EVERY
def test_words_are_read_as_the_fuzzer_reads_them(target):
    """Escapes and all."""
    assert len(blind.words(target)) == len(blind.words_file(target).read_text().splitlines())
    assert all(blind.words(target))


def broken_by_a_seed(target):
    """Whether any seed is not as promised."""
    for data in blind.seeds(target).values():
        try:
            TARGETS[target](data)
        except Exception:
            return True
    return False


class Hasty(SseTap):
    """A tap that gives out what it has with every chunk."""

    def feed(self, chunk):
        yield from super().feed(chunk)
        if self.held:
            yield self._event(self.finish())


def test_a_broken_reader_of_streams_is_found_out(monkeypatch):
    """The positive control: a hasty tap, and text counted otherwise by its frame."""
    with pytest.raises(AssertionError):
        targets.sse(blind.seeds("sse")["answer"], Hasty)
    assert not broken_by_a_seed("sse")
    monkeypatch.setattr("service.upstream.stream.text_of", lambda *_: (1, 1))
    assert broken_by_a_seed("sse")


def anew(self, changes):
    """An edit by way of a parser."""
    kept = {key: value for key, value in json.loads(self.body).items() if changes.get(key, b"") is not None}
    return json.dumps(kept | {key: json.loads(one) for key, one in changes.items() if one is not None}).encode()


@pytest.mark.parametrize(
    "fault",
    [
        lambda patch: patch.setattr(RawObject, "edited", anew),
        lambda patch: patch.setattr(chat_body, "_number", lambda *_: None),
        lambda patch: patch.setattr(chat_body, "scan", lambda _: RawObject(b"{}", {})),
        lambda patch: patch.setattr(targets, "read_chat", lambda *_: 1 // 0),
    ],
    ids=["written anew", "ranges unchecked", "duplicates unnoticed", "another exception"],
)
def test_a_broken_reader_of_requests_is_found_out(fault, monkeypatch):
    """The positive control."""
    fault(monkeypatch)
    assert broken_by_a_seed("request")


def told(*lines):
    """A loader that says this of every file."""

    def load(*_, **__):
        raise RegistryError(lines)

    return load


@pytest.mark.parametrize("lines", [(), ("providers.yaml: something is wrong",), ("providers.yaml:9999:1: no such line",),
                                   (f"providers.yaml:1:1: the key {targets.CANARY} is bad",)])  # fmt: skip
def test_a_broken_loader_is_found_out(lines, monkeypatch):
    """The positive control: no problem, none with a place, one that is not there, one that tells a key."""
    monkeypatch.setattr(targets, "load_bytes", told(*lines))
    assert broken_by_a_seed("registry")
