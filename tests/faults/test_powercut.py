"""Power cuts at any moment, simulated from a recording of what the journal asks of the disk; `make chaos` plays 100,000 (I1)."""

from __future__ import annotations

import pytest
from powercut import Disk, played
from recording import Recording, recorded

from service.ledger import recovery, syncing

CUTS = 200
SEED = 20261122


@pytest.mark.parametrize("sync", ["always", "group", "interval"])
def test_a_power_cut_loses_no_row_that_was_on_disk_and_doubles_none(tmp_path, sync):
    """`always` loses no acknowledged row; the others may, and the recording shows that cuts fell where they do."""
    recording = recorded(tmp_path, sync, SEED)
    kinds = {call.what for call in recording.calls}
    assert {"write", "sync", "create", "rename", "ack"} <= kinds
    assert ("failed sync" in kinds) >= (sync == "always"), "no sync failed: this recording proves less than it should"
    cuts = played(recording, tmp_path, CUTS, SEED)
    assert cuts.wrong[:5] == []
    assert cuts.told > 0, "no cut tore anything: this run proves nothing"
    assert (cuts.lost == 0) == (sync == "always")


def test_a_journal_that_does_not_wait_for_the_disk_is_caught(tmp_path, monkeypatch):
    """Positive control: syncs that only pretend, in the mode that promises them."""
    monkeypatch.setattr(syncing.Syncer, "force", lambda _syncer, _descriptor: None)
    cuts = played(recorded(tmp_path, "always", SEED), tmp_path, 60, SEED)
    assert any("acknowledged and lost" in one for one in cuts.wrong)


def test_segments_whose_names_are_not_forced_are_caught(tmp_path):
    """Positive control, as if no directory were ever synced: the bytes are on disk, and no name leads to them."""
    recording = recorded(tmp_path, "always", SEED)
    files = {call.file for call in recording.calls if call.what in {"create", "write"}}
    recording.calls = [call for call in recording.calls if call.what != "sync" or call.file in files]
    cuts = played(recording, tmp_path, 60, SEED)
    assert any("acknowledged and lost" in one for one in cuts.wrong)


def test_a_sweep_that_marks_before_it_writes_is_caught(tmp_path):
    """Positive control: the mark that nobody has to look again is on disk, and what it speaks of is not."""
    recording = recorded(tmp_path, "always", SEED)

    class Hasty(Disk):
        """A disk on which marks are there from the beginning."""

        def __init__(self, whole: Recording, until: int) -> None:
            super().__init__(whole, until)
            for name in list(whole.before):
                if name.endswith(".jsonl"):
                    mark = name.partition(".")[0] + ".swept"
                    self.files[0] = type(next(iter(self.files.values())))()
                    self.names[mark] = 0

    cuts = played(recording, tmp_path, 60, SEED, disk=Hasty)
    assert any("no end" in one for one in cuts.wrong)


def test_a_sweep_that_forgets_who_swept_before_is_caught(tmp_path, monkeypatch):
    """Positive control: a start after a cut in the middle of a sweep ends attempts a second time."""
    recording = recorded(tmp_path, "always", SEED)
    monkeypatch.setattr(recovery, "_ended_in", lambda _segment, _wanted: iter(()))
    cuts = played(recording, tmp_path, 200, SEED)
    assert any("2 terminal rows" in one for one in cuts.wrong)
