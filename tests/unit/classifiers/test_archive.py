"""Arrays on disk: the same bytes each time, and twenty files that must do nothing but be refused."""

import io
import pickle
import struct
import time
import zipfile

import numpy as np
import pytest

from classifiers.archive import UNPACKED_BYTES_MAX, ArchiveError, npz_bytes, read_npz

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


def _with_a(member):
    return _zipped([("a.npy", member), ("b.npy", B)])


def _saved(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _lying_about_size():
    """The directory of the archive says 24 bytes, the member unpacks to a gigabyte of zeros."""
    content = bytearray(_with_a(_npy(_header(shape="(268435456,)"), b"\x00" * 4_000_000)))
    return bytes(content)


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
    "a pickle instead of an archive": lambda: pickle.dumps(_Trap()),
    "an npy of pickled objects instead of an archive": lambda: _npy(_header("|O", "(1,)"), pickle.dumps([_Trap()])),
    "an array of pickled objects": lambda: _saved(a=np.array([_Trap()], dtype=object), b=np.ones(4, np.int8)),
    "pickled objects under an honest name": lambda: _with_a(_npy(_header("|O", "(1,)"), pickle.dumps([_Trap()]))),
    "a structure with an object in it": lambda: _with_a(
        _npy("{'descr': [('x', '|O')], 'fortran_order': False, 'shape': (1,), }", pickle.dumps(_Trap()))
    ),
    "a pickle beside the arrays": lambda: _zipped([("a.npy", B), ("b.npy", B), ("c.pkl", pickle.dumps(_Trap()))]),
    "a member that climbs out": lambda: _zipped([("../a.npy", B), ("b.npy", B)]),
    "an absolute member": lambda: _zipped([("/a.npy", B), ("b.npy", B)]),
    "a member named twice": _twice,
    "a header with a call in it": lambda: _with_a(_npy("__import__('os').system('true')", b"\x00" * 24)),
    "a header that is nested without end": lambda: _with_a(_npy("[" * 3_000, b"")),
    "a header over the limit": lambda: _with_a(_npy(_header() + " " * 20_000, b"\x00" * 24)),
    "a later version of the header": lambda: _with_a(b"\x93NUMPY\x02\x00" + b"\xff\xff\xff\x7f"),
    "a shape of a petabyte": lambda: _with_a(_npy(_header(shape="(1000000000000000,)"), b"\x00" * 24)),
    "a shape that multiplies to little": lambda: _with_a(_npy(_header(shape="(-3, -2)"), b"\x00" * 24)),
    "a shape beyond all numbers": lambda: _with_a(_npy(_header(shape=f"(1{'0' * 400},)"), b"\x00" * 24)),
    "a bomb of zeros": lambda: _with_a(_npy(_header(shape="(16000000,)"), b"\x00" * 64_000_000)),
    "fewer bytes than it says": _lying_about_size,
    "more bytes than it says": lambda: _with_a(_npy(_header(), b"\x00" * 40)),
    "an encrypted member": _encrypted,
    "an unknown compression": lambda: _with_a(_npy(_header(), b"\x00" * 24)).replace(b"\x08\x00", b"\x63\x00"),
    "a damaged member": lambda: _zipped(
        [("a.npy", _npy(_header(), bytes(range(24)))), ("b.npy", B)], zipfile.ZIP_STORED
    ).replace(bytes(range(8, 16)), b"\xff" * 8),
    "cut in the middle": lambda: npz_bytes(_good())[:200],
    "columns first": lambda: _with_a(_npy(_header(shape="(2, 3)", order="True"), b"\x00" * 24)),
    "three dimensions": lambda: _with_a(_npy(_header(shape="(1, 2, 3)"), b"\x00" * 24)),
    "no dimension": lambda: _with_a(_npy(_header(shape="()"), b"\x00" * 4)),
    "another type of the same size": lambda: _with_a(_npy(_header("<i4"), b"\x00" * 24)),
    "the bytes the other way round": lambda: _with_a(_npy(_header(">f4"), b"\x00" * 24)),
    "nothing at all": lambda: b"",
}


@pytest.mark.parametrize("name", MALICIOUS)
def test_a_malicious_file_is_refused(name, recwarn):
    """With an error of one kind, and nothing of it runs."""
    content = MALICIOUS[name]()
    _Trap.sprung = False
    with pytest.raises(ArchiveError):
        read_npz(content, KINDS)
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
