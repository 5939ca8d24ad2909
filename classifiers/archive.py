"""Arrays in an npz file, written the same each time and read without trusting it. No pickles, no surprises in size.

Where on the path: `artefact` and `quality.artefact` store weights with it; a server reads them once at start-up.

Invariants:
1. Same arrays, same bytes: members stand in a fixed order under a fixed date.
2. Reading never runs anything and never takes more than `UNPACKED_BYTES_MAX`: names, types and sizes are checked on the
   headers, and no more bytes are unpacked than the header of an array accounts for.
3. What is no plain file is not waited for: a pipe has no end.
"""

from __future__ import annotations

import io
import math
import os
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt

UNPACKED_BYTES_MAX: Final = 32 * 1024 * 1024
HEADER_BYTES_MAX: Final = 4_096

_ZIP_DATE: Final = (1980, 1, 1, 0, 0, 0)
_SUFFIX: Final = ".npy"
_VERSION: Final = (1, 0)
_MAGIC: Final = b"\x93NUMPY\x01\x00"
_LENGTH: Final = struct.Struct("<H")
_HEADER: Final = re.compile(
    rb"\{'descr': '([<|][a-z][0-9])', 'fortran_order': False, 'shape': \(([0-9]{1,9},(?: [0-9]{1,9})?)\), \} *\n"
)
"""What NumPy writes for a plain array. Matched, not evaluated: nothing of the file is ever parsed as Python."""

MEMBERS_MAX: Final = 64
"""Arrays of one file: ours have a dozen. A few megabytes can list a hundred thousand, each an object in memory."""

_LISTED: Final = b"PK\x01\x02"
"""How an archive lists a member."""

_ENCRYPTED: Final = 1
_COMPRESSIONS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Those that `zipfile` unpacks piece by piece; of others it unpacks all that a few bytes expand to at once."""


_REFUSALS: Final = (
    *(ValueError, OSError, EOFError, KeyError, zlib.error, zipfile.BadZipFile),
    NotImplementedError,  # what `zipfile` raises for a version or a feature of zip that it doesn't know
)
"""What reading a damaged archive raises."""

Arrays = dict[str, npt.NDArray[Any]]


class ArchiveError(ValueError):
    """The file is no archive of the wanted arrays; the message says why, without the path."""


def npz_bytes(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """An npz file with fixed dates and sorted members. `np.savez` would stamp the time of writing into it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(arrays):
            member = zipfile.ZipInfo(name + _SUFFIX, date_time=_ZIP_DATE)
            member.compress_type = zipfile.ZIP_DEFLATED
            member.create_system = 3
            member.external_attr = 0o644 << 16
            content = io.BytesIO()
            np.lib.format.write_array(content, np.ascontiguousarray(arrays[name]), version=_VERSION, allow_pickle=False)
            archive.writestr(member, content.getvalue(), compresslevel=9)
    return buffer.getvalue()


def read_file(path: Path, limit: int) -> bytes:
    """The bytes of a file. Raises `ArchiveError` for what is no plain file, or larger than `limit`, and OSError."""
    # Without waiting: opening a pipe would, until somebody writes to it.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb", closefd=True) as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ArchiveError("no plain file")
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise ArchiveError(f"over {limit} bytes")
    return content


def read_npz(content: bytes, kinds: Mapping[str, type[np.generic]]) -> Arrays:
    """The arrays of an npz that holds exactly these names with these types, of one or two dimensions each.

    Raises `ArchiveError` for anything else.
    """
    if content.count(_LISTED) > MEMBERS_MAX:
        raise ArchiveError(f"lists more than {MEMBERS_MAX} members")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            held = sorted(member.filename for member in members)
            if held != sorted(name + _SUFFIX for name in kinds):
                raise ArchiveError(f"holds {str(held)[:200]}, wanted {sorted(kinds)}")
            if any(member.flag_bits & _ENCRYPTED for member in members):
                raise ArchiveError("is encrypted")
            if any(member.compress_type not in _COMPRESSIONS for member in members):
                raise ArchiveError("is compressed in a way that is not read: deflate or nothing")
            left = UNPACKED_BYTES_MAX
            found: Arrays = {}
            for member in members:
                name = member.filename.removesuffix(_SUFFIX)
                with archive.open(member) as stream:
                    found[name] = _read_array(stream, name, np.dtype(kinds[name]), left)
                left -= found[name].nbytes
            return found
    except ArchiveError:
        raise
    except _REFUSALS as error:
        raise ArchiveError(f"not an npz without pickles ({type(error).__name__})") from error


def _read_array(stream: IO[bytes], name: str, kind: np.dtype[Any], limit: int) -> npt.NDArray[Any]:
    """One member, of a known type and at most `limit` bytes."""
    start = stream.read(len(_MAGIC) + _LENGTH.size)
    if len(start) < len(_MAGIC) + _LENGTH.size or not start.startswith(_MAGIC):
        raise ArchiveError(f"{name} is no npy file of version 1.0")
    header = stream.read(min(_LENGTH.unpack(start[len(_MAGIC) :])[0], HEADER_BYTES_MAX))
    said = _HEADER.fullmatch(header)
    if said is None:
        raise ArchiveError(f"{name} has a header that is not read: a plain type, rows first, one or two dimensions")
    if said[1].decode() != kind.str:
        raise ArchiveError(f"{name} is {said[1].decode()}, wanted {kind.str}")
    shape = tuple(int(size) for size in said[2].split(b",") if size.strip())
    size = math.prod(shape) * kind.itemsize
    if size > limit:
        raise ArchiveError(f"{name} unpacks to {size} bytes; all arrays together may take {UNPACKED_BYTES_MAX}")
    body = stream.read(size + 1)
    if len(body) != size:
        raise ArchiveError(f"{name} has not the {size} bytes that its header says")
    return np.frombuffer(body, dtype=kind).reshape(shape)
