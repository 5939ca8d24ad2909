"""Levers and alternatives: plain frozen values."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from service.domain.what_if import Alternative, Change, WhatIf


def test_what_says_nothing_is_empty():
    """No alternative and no policy; a change has the bounds that it was given."""
    assert WhatIf() == WhatIf((), {})
    assert (Change("quality", 0.5).at_most, Change("quality", 0.5).at_least) == (None, None)
    assert Alternative("p/m", ("runner_up",), ()).obstacle is None


def test_they_are_frozen():
    """Nobody changes what was told."""
    with pytest.raises(FrozenInstanceError):
        Change("quality", 0.5).now = 0.6  # type: ignore[misc] # that is the point
