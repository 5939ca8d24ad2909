"""Keys in turn, and those that were refused left alone for a while."""

from __future__ import annotations

import pytest

from service.errors import Replied
from service.upstream.key_ring import KEY_REST_S, KEY_WAIT_S_MAX, KeyRing

KEYS = ("one", "two", "three")


def refused(cause="auth_failed", wait=None):
    """What a vendor said of a key."""
    return Replied("no", cause=cause, upstream_status=401, retry_after_s=wait)


def turns(ring, now, count=6, keys=KEYS, provider="p"):
    """Which keys are taken."""
    return [ring.next(provider, keys, now) for _ in range(count)]


def test_keys_are_used_in_turn():
    """Each as often as the others; a single one, or none, is place 0."""
    ring = KeyRing()
    assert sorted(turns(ring, 0)) == [0, 0, 1, 1, 2, 2]
    each = [(ring.next("x", KEYS[:2], 0), ring.next("y", KEYS[:2], 0)) for _ in range(4)]
    assert {x for x, _ in each} == {y for _, y in each} == {0, 1}, "also where providers take turns"
    assert turns(ring, 0, keys=("one",)) == turns(ring, 0, keys=()) == [0] * 6


@pytest.mark.parametrize(("wait", "for_s"), [(None, KEY_REST_S), (0.0, 1.0), (7.0, 7.0), (9_999.0, KEY_WAIT_S_MAX)])
@pytest.mark.parametrize("cause", ["auth_failed", "payment_required", "rate_limited"])
def test_a_refused_key_rests(cause, wait, for_s):
    """For as long as was said, a minute at most; then it is used again. Other providers' keys are not its own."""
    ring = KeyRing()
    assert ring.refused("p", KEYS, 1, refused(cause, wait), 100)
    assert 1 not in turns(ring, 100 + for_s - 0.1)
    assert 1 in turns(ring, 100 + for_s)
    assert 1 in turns(ring, 100, provider="q")


def test_when_all_rest_it_is_the_deployments_trouble():
    """The last refusal says so, and the one that rests least is used."""
    ring = KeyRing()
    assert ring.refused("p", KEYS, 0, refused(wait=30.0), 0)
    assert ring.refused("p", KEYS, 1, refused(wait=10.0), 0)
    assert not ring.refused("p", KEYS, 2, refused(wait=20.0), 0)
    assert set(turns(ring, 1)) == {1}
    ring.forget()
    assert set(turns(ring, 1)) == {0, 1, 2}


def test_what_is_no_keys_fault():
    """Other causes, and a provider with one key."""
    ring = KeyRing()
    assert not ring.refused("p", KEYS, 0, refused("http_500"), 0)
    assert not ring.refused("p", ("one",), 0, refused(), 0)
    assert set(turns(ring, 0)) == {0, 1, 2}
