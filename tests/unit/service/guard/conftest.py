"""A key store on a file of its own."""

from __future__ import annotations

import itertools

import pytest

from service.guard.keys import KEYS_FILE, KeyStore

PEPPER = bytes(range(1, 33))
NOW_MS = 1_800_000_000_000


@pytest.fixture
def path(tmp_path):
    """Where the key file will be; its directory does not exist yet."""
    return tmp_path / "data" / KEYS_FILE


@pytest.fixture
def store(path):
    """A store at a fixed wall clock that looks at its file on every call."""
    return KeyStore(path, PEPPER, monotonic=map(float, itertools.count()).__next__, wall_ms=lambda: NOW_MS)
