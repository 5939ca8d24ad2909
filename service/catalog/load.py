"""The one entrance: providers.yaml and the environment in, a frozen `Catalog` out, or every problem of the file.

Where on the path: start-up, `coe check` and reload. The caller swaps catalogues; a file with a problem changes nothing.

Invariants
1. All problems are raised together, each `file:line:column: what is wrong; what to do`, in the order of the file.
2. No code is run, no name is looked up and no host is dialled by reading a file.
3. The same bytes, environment and known quirks give an equal catalogue; its version is a hash of the bytes.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from service.catalog.build import Setting, build
from service.catalog.crosscheck import crosscheck
from service.catalog.draft import draft
from service.catalog.positions import MAX_FILE_BYTES, read
from service.catalog.problems import Problems
from service.domain.catalog import Catalog

VERSION_CHARS = 12
"""Hex digits of the file's SHA-256 that name a version: enough to tell the files of a lifetime apart."""


def load(
    path: Path, environ: Mapping[str, str], *, now: datetime, known_quirks: Mapping[str, str] | None = None
) -> Catalog:
    """The catalogue of the file at `path`.

    `environ` holds the keys that the file refers to, `now` is an aware instant, `known_quirks` maps the quirks that the
    code honours to what they mean (`None`: any is accepted). Raises RegistryError.
    """
    problems = Problems(str(path))
    data = bytes_of(path, problems)
    return load_bytes(data, str(path), environ, now=now, known_quirks=known_quirks)


def load_bytes(
    data: bytes,
    file: str,
    environ: Mapping[str, str],
    *,
    now: datetime,
    known_quirks: Mapping[str, str] | None = None,
) -> Catalog:
    """As `load`, from bytes that were read already; problems start with the name `file`. Raises RegistryError."""
    if now.tzinfo is None:
        raise ValueError("load needs an aware instant; pass datetime.now(UTC)")
    problems = Problems(file)
    document = read(data, problems)
    if document is None:
        problems.fail()
    problems.locate_with(document)
    entries = draft(document, problems)
    notes = crosscheck(entries, problems, known_quirks)
    version = hashlib.sha256(data).hexdigest()[:VERSION_CHARS]
    catalog = build(entries, Setting(environ, now, notes, version), problems)
    if problems:
        problems.fail()
    return catalog


def bytes_of(path: Path, problems: Problems) -> bytes:
    """The bytes of a regular file, at most one more than the limit. Raises RegistryError."""
    try:
        if stat.S_ISREG(path.stat().st_mode):
            with path.open("rb") as file:
                return file.read(MAX_FILE_BYTES + 1)
        reason = "not a file; give the path of a providers.yaml (--providers, COE_PROVIDERS)"
    except FileNotFoundError:
        reason = "no such file; give the path of a providers.yaml (--providers, COE_PROVIDERS)"
    except OSError as error:
        reason = f"can't be read ({error.strerror}); check its permissions"
    problems.add(1, 1, reason)
    return problems.fail()
