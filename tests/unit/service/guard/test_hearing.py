"""How much feedback a key may send, and what is not written twice."""

from __future__ import annotations

import pytest

from service.errors import RateLimited
from service.guard import hearing as module
from service.guard.hearing import PER_MINUTE, Hearing


def test_a_keys_minute():
    """Each key has its own; the next minute begins anew; the refusal says when."""
    one = Hearing()
    for _ in range(PER_MINUTE):
        one.admit("key_1", 70.0)
    with pytest.raises(RateLimited) as refusal:
        one.admit("key_1", 70.0)
    assert refusal.value.headers == {"retry-after": "51"}
    one.admit("key_2", 70.0)
    one.admit(None, 70.0)
    one.admit("key_1", 120.0)


def test_the_same_word_is_known():
    """The last one of a decision, while it is remembered."""
    one = Hearing()
    assert not one.said_before("dec_1", (1.0, None))
    one.remember("dec_1", (1.0, None))
    assert one.said_before("dec_1", (1.0, None))
    one.remember("dec_1", (0.0, None))
    assert not one.said_before("dec_1", (1.0, None))


def test_memory_is_bounded(monkeypatch):
    """The oldest is forgotten."""
    monkeypatch.setattr(module, "REMEMBERED", 3)
    one = Hearing()
    for place in range(5):
        one.remember(f"dec_{place}", place)
    assert [one.said_before(f"dec_{place}", place) for place in range(5)] == [False, False, True, True, True]
