"""Arrays on disk: the same bytes each time, and twenty files that must do nothing but be refused."""

import io
import os
import pickle
import struct
import time
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest

from classifiers.archive import MEMBERS_MAX, UNPACKED_BYTES_MAX, ArchiveError, npz_bytes, read_file, read_npz

KINDS = {"a": np.float32, "b": np.int8}


def _good():
    return {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(4, np.int8)}


def test_what_is_written_is_read():
    """Positive control of all refusals below."""
    found = read_npz(npz_bytes(_good()), KINDS)
    assert {name: array.tolist() for name, array in found.items()} == {
        name: array.tolist() for name, array in _good().items()
    }


def test_same_arrays_same_bytes(monkeypatch):
    """The time of writing is not in the file; `np.savez` would put it there."""
    first = npz_bytes(_good())
    monkeypatch.setattr(time, "time", lambda: 2_000_000_000.0)
    assert npz_bytes(dict(reversed(_good().items()))) == first


class _Trap:
    """Says so when it is unpickled."""

    sprung = False

    def __reduce__(self):
        return _spring, ()


def _spring():
    _Trap.sprung = True


def _npy(header, body=b""):
    """An npy member with any header."""
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + body


def _zipped(members, compression=zipfile.ZIP_DEFLATED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


def _header(kind="<f4", shape="(6,)", order="False"):
    return f"{{'descr': '{kind}', 'fortran_order': {order}, 'shape': {shape}, }}"


B = _npy(_header("|i1", "(4,)"), b"\x01" * 4)


def _with_a(member, compression=zipfile.ZIP_DEFLATED):
    return _zipped([("a.npy", member), ("b.npy", B)], compression)


def _saved(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _long_behind_an_honest_header():
    """The header says 24 bytes; 600 MB of zeros follow, in less than a megabyte."""
    squeezed = zlib.compressobj(9, zlib.DEFLATED, -15)
    head = _npy(_header())
    chunks, size, sum_ = [squeezed.compress(head)], len(head), zlib.crc32(head)
    zeros = b"\x00" * 1_000_000
    for _ in range(600):
        chunks.append(squeezed.compress(zeros))
        size, sum_ = size + len(zeros), zlib.crc32(zeros, sum_)
    packed = b"".join([*chunks, squeezed.flush()])
    local = struct.pack("<4sHHHHHIIIHH", b"PK\x03\x04", 20, 0, 8, 0, 33, sum_, len(packed), size, 5, 0) + b"a.npy"
    other = struct.pack("<4sHHHHHIIIHH", b"PK\x03\x04", 20, 0, 0, 0, 33, zlib.crc32(B), len(B), len(B), 5, 0) + b"b.npy"
    at = len(local) + len(packed)
    listed = b""
    for name, way, check, small, whole, place in (
        (b"a.npy", 8, sum_, len(packed), size, 0),
        (b"b.npy", 0, zlib.crc32(B), len(B), len(B), at),
    ):
        fields = (b"PK\x01\x02", 20, 20, 0, way, 0, 33, check, small, whole, len(name), 0, 0, 0, 0, 0, place)
        listed += struct.pack("<4sHHHHHHIIIHHHHHII", *fields) + name
    start = at + len(other) + len(B)
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 2, 2, len(listed), start, 0)
    return local + packed + other + B + listed + end


def _encrypted():
    content = bytearray(_with_a(_npy(_header(), b"\x00" * 24)))
    for mark in (b"PK\x03\x04", b"PK\x01\x02"):
        at = content.find(mark)
        content[at + (6 if mark[2] == 3 else 8)] |= 1
    return bytes(content)


def _twice():
    with pytest.warns(UserWarning, match="Duplicate"):
        return _zipped(
            [("a.npy", _npy(_header(), b"\x00" * 24)), ("a.npy", _npy(_header(), b"\x00" * 24)), ("b.npy", B)]
        )


MALICIOUS = {
    "a pickle instead of an archive": (lambda: pickle.dumps(_Trap()), "not an npz"),
    "an npy of pickled objects instead of an archive": (
        lambda: _npy(_header("|O", "(1,)"), pickle.dumps([_Trap()])),
        "not an npz",
    ),
    "an array of pickled objects": (
        lambda: _saved(a=np.array([_Trap()], dtype=object), b=np.ones(4, np.int8)),
        "header that is not read",
    ),
    "pickled objects under an honest name": (
        lambda: _with_a(_npy(_header("|O", "(1,)"), pickle.dumps([_Trap()]))),
        "header that is not read",
    ),
    "a structure with an object in it": (
        lambda: _with_a(
            _npy("{'descr': [('x', '|O')], 'fortran_order': False, 'shape': (1,), }", pickle.dumps(_Trap()))
        ),
        "header that is not read",
    ),
    "a pickle beside the arrays": (
        lambda: _zipped([("a.npy", B), ("b.npy", B), ("c.pkl", pickle.dumps(_Trap()))]),
        "holds",
    ),
    "a member that climbs out": (lambda: _zipped([("../a.npy", B), ("b.npy", B)]), "holds"),
    "an absolute member": (lambda: _zipped([("/a.npy", B), ("b.npy", B)]), "holds"),
    "a member named twice": (_twice, "holds"),
    "a header with a call in it": (
        lambda: _with_a(_npy("__import__('os').system('true')", b"\x00" * 24)),
        "header that is not read",
    ),
    "a header that is nested without end": (lambda: _with_a(_npy("[" * 3_000, b"")), "header that is not read"),
    "a header over the limit": (
        lambda: _with_a(_npy(_header() + " " * 20_000, b"\x00" * 24)),
        "header that is not read",
    ),
    "a later version of the header": (lambda: _with_a(b"\x93NUMPY\x02\x00" + b"\xff\xff\xff\x7f"), "version 1.0"),
    "a shape of a petabyte": (
        lambda: _with_a(_npy(_header(shape="(1000000000000000,)"), b"\x00" * 24)),
        "header that is not read",
    ),
    "a shape of many gigabytes": (
        lambda: _with_a(_npy(_header(shape="(999999999, 999999999)"), b"\x00" * 24)),
        "together",
    ),
    "a shape that multiplies to little": (
        lambda: _with_a(_npy(_header(shape="(-3, -2)"), b"\x00" * 24)),
        "header that is not read",
    ),
    "a bomb of zeros": (lambda: _with_a(_npy(_header(shape="(16000000,)"), b"\x00" * 64_000_000)), "together"),
    "a bomb behind an honest header": (_long_behind_an_honest_header, "has not the 24 bytes"),
    "a bomb in another compression": (
        lambda: _with_a(_npy(_header(), b"\x00" * 64_000_000), zipfile.ZIP_BZIP2),
        "compressed in a way",
    ),
    "a bomb in a third compression": (
        lambda: _with_a(_npy(_header(), b"\x00" * 64_000_000), zipfile.ZIP_LZMA),
        "compressed in a way",
    ),
    "fewer bytes than it says": (lambda: _with_a(_npy(_header(), b"\x00" * 20)), "has not the 24 bytes"),
    "more bytes than it says": (lambda: _with_a(_npy(_header(), b"\x00" * 40)), "has not the 24 bytes"),
    "an encrypted member": (_encrypted, "encrypted"),
    "an unknown compression": (
        lambda: _with_a(_npy(_header(), b"\x00" * 24)).replace(b"\x08\x00", b"\x63\x00"),
        "not an npz|compressed in a way",
    ),
    "a damaged member": (
        lambda: _zipped([("a.npy", _npy(_header(), bytes(range(24)))), ("b.npy", B)], zipfile.ZIP_STORED).replace(
            bytes(range(8, 16)), b"\xff" * 8
        ),
        "not an npz",
    ),
    "cut in the middle": (lambda: npz_bytes(_good())[:200], "not an npz"),
    "columns first": (
        lambda: _with_a(_npy(_header(shape="(2, 3)", order="True"), b"\x00" * 24)),
        "header that is not read",
    ),
    "three dimensions": (lambda: _with_a(_npy(_header(shape="(1, 2, 3)"), b"\x00" * 24)), "header that is not read"),
    "no dimension": (lambda: _with_a(_npy(_header(shape="()"), b"\x00" * 4)), "header that is not read"),
    "another type of the same size": (lambda: _with_a(_npy(_header("<i4"), b"\x00" * 24)), "wanted <f4"),
    "the bytes the other way round": (lambda: _with_a(_npy(_header(">f4"), b"\x00" * 24)), "header that is not read"),
    "nothing at all": (lambda: b"", "not an npz"),
}

UNPACKED_HERE_MAX = 8 * 1024 * 1024
"""What refusing may take: a good part of a megabyte per small file, never what a bomb expands to."""


@pytest.mark.parametrize("name", MALICIOUS)
def test_a_malicious_file_is_refused(name):
    """For the reason it should be, without running anything of it or unpacking what it expands to."""
    make, reason = MALICIOUS[name]
    content = make()
    _Trap.sprung = False
    tracemalloc.start()
    try:
        with pytest.raises(ArchiveError, match=reason):
            read_npz(content, KINDS)
        assert tracemalloc.get_traced_memory()[1] < UNPACKED_HERE_MAX
    finally:
        tracemalloc.stop()
    assert not _Trap.sprung


def test_the_trap_springs():
    """Positive control: unpickled, it would have said so."""
    _Trap.sprung = False
    pickle.loads(pickle.dumps(_Trap()))  # noqa: S301 - our own bytes: the control needs what the reader must not do
    assert _Trap.sprung


def test_the_limit_is_for_all_arrays_together():
    """Two arrays that fit one by one may be too large together."""
    half = np.zeros(UNPACKED_BYTES_MAX // 8 + 1, np.float32)
    assert len(read_npz(npz_bytes({"a": half}), {"a": np.float32})) == 1
    with pytest.raises(ArchiveError, match="together"):
        read_npz(npz_bytes({"a": half, "b": half}), {"a": np.float32, "b": np.float32})


def test_members_are_counted_before_they_are_listed():
    """At the limit they are looked at, one over it they are not."""
    for count, words in ((MEMBERS_MAX, "holds"), (MEMBERS_MAX + 1, "lists more than")):
        with pytest.raises(ArchiveError, match=words):
            read_npz(_zipped([(f"{number}.npy", B) for number in range(count)]), KINDS)


def test_a_file_is_read_up_to_its_limit(tmp_path):
    """A byte more is too much; what has no end or is no file is not waited for."""
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_file(path, 5) == b"12345"
    with pytest.raises(ArchiveError, match="over 4 bytes"):
        read_file(path, 4)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zeros").symlink_to("/dev/zero")
    for name in ("pipe", "zeros"):
        with pytest.raises(ArchiveError, match="no plain file"):
            read_file(tmp_path / name, 5)
    with pytest.raises(OSError, match="directory"):
        read_file(tmp_path, 5)
