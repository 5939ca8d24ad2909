"""Exit codes: scripts branch on these numbers, so they never change their meaning."""

from __future__ import annotations

import os

from service.cli import exits


def test_the_codes_are_those_of_sysexits():
    """The same numbers as the operating system's, each used once and explained."""
    ours = {name: value for name, value in vars(exits).items() if name.startswith("EX_")}
    assert ours == {name: getattr(os, name) for name in ours}
    assert set(ours) == {"EX_USAGE", "EX_DATAERR", "EX_UNAVAILABLE", "EX_CANTCREAT", "EX_TEMPFAIL", "EX_CONFIG"}
    assert len(set(ours.values())) == len(ours)
