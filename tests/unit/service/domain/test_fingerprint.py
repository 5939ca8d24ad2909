"""A short name for a value: the same everywhere for equal values, another one for whatever counts."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field, replace

import pytest
from scenery import POLICIES, a_catalog, a_model

from service.domain.catalog import PolicySpec, Provider
from service.domain.fingerprint import fingerprint


@dataclass(frozen=True)
class Thing:
    """With a secret and a note."""

    name: str
    secret: str = field(default="", repr=False)
    note: str = ""
    derived: int = field(default=0, compare=False)


def test_equal_values_have_equal_names_in_every_process():
    """Sets and hashes are in another order elsewhere; the name is not."""
    code = (
        "from service.domain.fingerprint import fingerprint;"
        "print(fingerprint({'a': frozenset('hello world'), 'b': (1.5, None, True)}))"
    )
    names = set()
    for seed in ("0", "1", "2"):
        environ = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
        names.add(done.stdout.strip())
    assert names == {fingerprint({"a": frozenset("hello world"), "b": (1.5, None, True)})}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ([1, 2], [2, 1]),
        (0.1, 0.1 + 2**-56),
        (1, 1.0),
        ("1", 1),
        (Thing("a"), Thing("b")),
        (Thing("a"), Thing("a", note="n")),
        (None, ""),
    ],
)
def test_what_counts(one, other):
    """Order, every digit, types and fields."""
    assert fingerprint(one) != fingerprint(other)


def test_what_does_not_count():
    """Secrets, what is derived, what one leaves out, the order of a set."""
    plain = fingerprint(Thing("a"))
    assert fingerprint(Thing("a", secret="s", derived=9)) == plain
    assert fingerprint(Thing("a", note="n"), frozenset({"note"})) == fingerprint(Thing("a"), frozenset({"note"}))
    assert fingerprint(frozenset("ab")) == fingerprint(frozenset("ba"))


CATALOG = a_catalog(a_model("m"), a_model("n"))


def test_what_a_registry_offers():
    """Who is active, prices, quality, policies and their order count; addresses, keys and the file's own name don't."""
    same = a_catalog(
        a_model("m", at=(Provider("p", "https://elsewhere.example", api_keys=("k",), simulated=True),)), a_model("n")
    )
    assert replace(same, version="other").offer == CATALOG.offer
    others = [
        a_catalog(a_model("n"), a_model("m")),
        a_catalog(a_model("m", (1, 3)), a_model("n")),
        a_catalog(a_model("m", quality=0.91), a_model("n")),
        a_catalog(a_model("m", at=(Provider("p", "x", inactive_reason="set P_KEY"),)), a_model("n")),
        a_catalog(a_model("m", at=(Provider("p", "x", region="eu"),)), a_model("n")),
        replace(CATALOG, policies={**POLICIES, "cheap": PolicySpec("cheap")}),
        replace(CATALOG, baseline="m"),
        replace(CATALOG, default_policy="cheap"),
    ]
    assert len({CATALOG.offer, *(one.offer for one in others)}) == len(others) + 1


def test_what_a_policy_says():
    """Its bounds, and its name."""
    versions = [PolicySpec("a").version, PolicySpec("b").version, PolicySpec("a", min_quality=0.1).version]
    assert len(set(versions)) == 3
    assert replace(PolicySpec("a"), min_quality=0.1).version == versions[2]
