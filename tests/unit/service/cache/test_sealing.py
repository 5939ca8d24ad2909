"""What comes out of a store is what was put there, under this name, by us; or nothing."""

from __future__ import annotations

import random

import pytest

from service.cache.sealing import FORM, HEAD_BYTES_MAX, Kept, sealed, unsealed

SECRET, NAME = b"s" * 32, b"n" * 32
KEPT = Kept(b'{"choices":[]}', "application/json", False, 1_790_000_000_000, "p/m", "att_1", 2**63, "id-1", "m-2")
STREAM = Kept(b"data: {}\n\n" * 50, "text/event-stream", True, 0, "p/m", "att_2", None)


@pytest.mark.parametrize("kept", [KEPT, STREAM, Kept(b"", "", False, 0, "", "", 0)], ids=["whole", "stream", "empty"])
def test_it_comes_back(kept):
    assert unsealed(SECRET, NAME, sealed(SECRET, NAME, kept)) == kept


def test_under_another_name_or_secret_it_is_nothing():
    """A reply that is somebody else's: the known way in which pools of connections mix callers up."""
    value = sealed(SECRET, NAME, KEPT)
    assert unsealed(SECRET, b"m" * 32, value) is None
    assert unsealed(b"t" * 32, NAME, value) is None


def test_every_changed_byte_and_every_cut_is_noticed():
    value = sealed(SECRET, NAME, KEPT)
    for place in range(len(value)):
        changed = bytearray(value)
        changed[place] ^= 1
        assert unsealed(SECRET, NAME, bytes(changed)) is None, place
        assert unsealed(SECRET, NAME, value[:place]) is None, place
    assert unsealed(SECRET, NAME, value + b"x") is None


def test_what_somebody_else_put_there_is_noticed():
    """Random bytes, the right beginning, an answer without its seal."""
    draw = random.Random(1)
    for size in (0, 1, 4, 36, 40, 1_000):
        assert unsealed(SECRET, NAME, FORM + draw.randbytes(size)) is None
        assert unsealed(SECRET, NAME, draw.randbytes(size)) is None
    assert unsealed(SECRET, NAME, FORM + bytes(32) + sealed(SECRET, NAME, KEPT)[36:]) is None


def test_the_head_has_a_limit_and_must_be_text():
    """A vendor chooses the id and the name of its model."""
    with pytest.raises(ValueError, match="nothing is kept"):
        sealed(SECRET, NAME, Kept(b"", "x" * HEAD_BYTES_MAX, False, 0, "", "", 0))
    with pytest.raises(ValueError, match="nothing is kept"):
        sealed(SECRET, NAME, Kept(b"", "", False, 0, "", "", 0, "\ud800"))
