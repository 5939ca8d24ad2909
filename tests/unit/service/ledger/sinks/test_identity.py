"""A data directory has one name, whoever asks for it first."""

from __future__ import annotations

import threading

from service.ledger.sinks import identity


def test_a_name_is_given_once(tmp_path):
    """Nobody has one before; later it stays, and only its owner may read it."""
    place = tmp_path / "data"
    assert identity.known(place) is None
    name = identity.made(place)
    assert identity.made(place) == identity.known(place) == name
    assert len(name) == 32
    assert [path.name for path in place.iterdir()] == [identity.IDENTITY]
    assert (place / identity.IDENTITY).stat().st_mode & 0o777 == 0o600
    assert identity.made(tmp_path / "other") != name


def test_of_two_at_once_both_get_the_same(tmp_path):
    """Two processes may start in one directory."""
    names = []
    threads = [threading.Thread(target=lambda: names.append(identity.made(tmp_path))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(names)) == 1
    assert len(names) == 8
