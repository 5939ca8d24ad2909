"""Routing is visible: seven kinds of requests go to sensibly different candidates of the shipped registry.

`coe route` explains each in a screenful. Decided as if every provider had its key; nothing is called.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from stage import ROOT, coe

from service.config import Settings
from service.startup import read_registry

BOOK = "The committee met again on Tuesday and went through the minutes of the previous session in detail. " * 6_000

SCENES = {
    "trivial": {"messages": [{"role": "user", "content": "hi there, how are you today?"}]},
    "proof": {
        "messages": [
            {"role": "user", "content": "Prove that there are infinitely many primes congruent to 3 modulo 4."}
        ]
    },
    "code": {
        "messages": [
            {
                "role": "user",
                "content": "Write a Python function that finds strongly connected components of a graph, with tests.",
            }
        ]
    },
    "translation": {
        "messages": [{"role": "user", "content": "把下面这段话翻译成英文：今天天气很好，我们去公园散步吧。"}]
    },
    "book": {"messages": [{"role": "user", "content": f"Summarize the following book.\n\n{BOOK}"}]},
    "image": {
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is written on this sign?"},
                    {"type": "image_url", "image_url": {"url": "https://example.com/sign.png"}},
                ],
            }
        ]
    },
    "tool": {
        "messages": [{"role": "user", "content": "Book me a table for two at 7 pm."}],
        "tools": [
            {"type": "function", "function": {"name": "book_table", "parameters": {"type": "object", "properties": {}}}}
        ],
    },
}

DIFFERENT = [
    ("trivial", "proof"),
    ("trivial", "code"),
    ("trivial", "image"),
    ("trivial", "tool"),
    ("translation", "proof"),
    ("translation", "code"),
    ("proof", "code"),
    ("proof", "image"),
]
"""Scenes whose demands differ so much that one model for both would be too dear or too weak, at any hour's prices."""


def _route(name, *flags):
    body = json.dumps({"model": "auto", **SCENES[name]})
    done = coe(
        "route", "--all-keys", "--body", "-", "--providers", str(ROOT / "providers.yaml"), *flags, stdin=body.encode()
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def decisions():
    """The full decision of every scene."""
    return {name: json.loads(_route(name, "--json")) for name in SCENES}


def _chosen(decision):
    model = decision["chosen"].partition("/")[2]
    (told,) = [one for one in decision["candidates"] if one["deployment"] == decision["chosen"]]
    return model, told


def test_hard_and_easy_go_to_different_models(decisions):
    """A greeting costs a fraction of a proof, and they are not answered by the same model."""
    easy, easy_told = _chosen(decisions["trivial"])
    hard, hard_told = _chosen(decisions["proof"])
    assert easy != hard
    assert decisions["trivial"]["intent"]["label"] == "chitchat"
    assert decisions["proof"]["intent"]["label"] == "math"
    assert float(easy_told["expected_cost_usd"]) * 3 < float(hard_told["expected_cost_usd"])


def test_each_kind_is_recognised_and_capably_served(decisions):
    """Code to a coder, Chinese to a translator of Chinese, a book to a long context, an image to eyes, tools to hands."""
    assert decisions["code"]["intent"]["label"] == "coding"
    assert decisions["translation"]["intent"]["label"] == "translation"
    assert decisions["translation"]["intent"]["language"] == "zh"
    assert decisions["book"]["features"]["input_tokens"] > 100_000
    assert "image" in decisions["image"]["features"]["modalities"]
    assert decisions["tool"]["features"]["needs"] == ["tools"]
    for name, kind in (("book", "context"), ("image", "modality"), ("tool", "capability")):
        reasons = [one["reason"] for one in decisions[name]["rejected"]]
        assert any(reason.startswith(kind) for reason in reasons), f"{name}: nobody was rejected for {kind}"


@pytest.mark.parametrize(("one", "other"), DIFFERENT, ids="-".join)
def test_different_demands_are_not_answered_by_one_model(decisions, one, other):
    """What a greeting needs is not what a proof, a program, an image or a tool needs; nor is a proof a program."""
    assert _chosen(decisions[one])[0] != _chosen(decisions[other])[0]


def test_who_is_chosen_can_do_what_is_asked(decisions):
    """By the registry's own words: eyes for the image, hands for the tool, room for the book, Chinese for the Chinese."""
    models = read_registry(Settings(providers=ROOT / "providers.yaml"), datetime.now(UTC)).models
    chosen = {name: models[_chosen(decision)[0]] for name, decision in decisions.items()}
    assert "image" in chosen["image"].modalities
    assert "tools" in chosen["tool"].capabilities
    assert chosen["book"].context_tokens > decisions["book"]["features"]["input_tokens"]
    assert "zh" in chosen["translation"].languages
    for name, decision in decisions.items():
        assert not chosen[name].retired(datetime.now(UTC).date()), name
        assert decision["degraded"] == [], name


@pytest.mark.parametrize("name", SCENES)
def test_each_is_explained_in_a_screenful(name):
    """At most 30 lines of at most 200 characters: choice, intent, evidence, policy, reasons, who can't serve."""
    screen = _route(name)
    lines = screen.rstrip().splitlines()
    assert len(lines) <= 30
    assert max(map(len, lines)) <= 200
    for word in ("→", "intent", "policy", "why", "candidate", "can't serve"):
        assert word in screen
