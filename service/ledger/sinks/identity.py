"""Who a data directory is, in a database that several of them fill.

Where on the path: below the sinks of shared databases.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path
from typing import Final

from service.ledger.segments import FILE_MODE

IDENTITY: Final = "ledger.id"
"""The file in the data directory that says which rows of a shared database are its own."""


def known(data_dir: Path) -> str | None:
    """The name of a data directory, or `None` when it has none yet; raises OSError."""
    try:
        return (data_dir / IDENTITY).read_text("ascii").strip()
    except FileNotFoundError:
        return None


def made(data_dir: Path) -> str:
    """The name of a data directory, given when it has none; raises OSError. Of two at once, one wins for both."""
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = data_dir / f"{IDENTITY}.{secrets.token_hex(4)}"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
    try:
        os.write(descriptor, secrets.token_hex(16).encode())
        os.fsync(descriptor)
        with contextlib.suppress(FileExistsError):
            os.link(draft, data_dir / IDENTITY)
    finally:
        os.close(descriptor)
        draft.unlink()
    return (data_dir / IDENTITY).read_text("ascii").strip()
