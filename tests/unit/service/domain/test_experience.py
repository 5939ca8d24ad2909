"""What was known beside a request: told and read back."""

from __future__ import annotations

import json

import pytest

from service.domain.experience import NOTHING, Experience, ExperienceError, from_plain

KNOWN = Experience({"m": 8_123, "n": 0}, unknown_ground=True, warm_tokens={"p/m": 2_048}, marked=True, artefact="q@1")


def test_it_survives_a_round_through_json():
    """The record holds it, and a replay reads it back."""
    for known in (KNOWN, NOTHING, Experience(warm_tokens={"p/m": 1})):
        assert from_plain(json.loads(json.dumps(known.plain()))) == known


def test_nothing_is_told_as_nothing():
    """Most records hold two characters of it."""
    assert NOTHING.plain() == {}


@pytest.mark.parametrize(
    "told",
    [
        None,
        [],
        {"qualities": {"m": 0.5}},
        {"qualities": {"m": -1}},
        {"qualities": {"m": True}},
        {"warm_tokens": [1]},
        {"unknown_ground": 1},
        {"marked": "yes"},
        {"more": 1},
    ],
)
def test_anything_else_is_refused(told):
    """A record is a file that anybody may have changed."""
    with pytest.raises(ExperienceError):
        from_plain(told)
