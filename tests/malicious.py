"""Model files that want to do something: attacks on an artefact's directory, by name, and a reader that watches itself.

Used by tests/adversarial/test_malicious_artefacts.py. Run as a script it loads each directory that standard input names
and prints one line of JSON for each: what it said, what it took, and every event of the interpreter that runs anything.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import resource
import signal
import struct
import sys
import time
import tracemalloc
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

RUNS = ("exec", "compile", "os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "pickle.find_class", "import")
"""Events of the interpreter after which something else runs."""

MEMORY_MAX = 3 * 1024**3
PATIENCE_S = 20
TERABYTE = 1024**4


class Trap:
    """Unpickled, it writes a file."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.canary}",)


@dataclass
class Target:
    """A good artefact, to be spoilt. `arrays` are its own, `name` is that of the first of them."""

    directory: Path
    canary: Path

    @property
    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        with np.load(self.directory / "weights.npz", allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}

    @property
    def name(self) -> str:
        return min(self.arrays)

    @property
    def trap(self) -> bytes:
        return pickle.dumps(Trap(self.canary))

    def weights(self, content: bytes, **changes: object) -> None:
        """Put other weights in place, with a manifest that agrees, as somebody with write access could."""
        (self.directory / "weights.npz").write_bytes(content)
        self.manifest(sha256=hashlib.sha256(content).hexdigest(), **changes)

    def manifest(self, **changes: object) -> None:
        path = self.directory / "manifest.json"
        path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **changes}), encoding="utf-8")

    def member(self, content: bytes | None, *more: tuple[str, bytes], kind: int = zipfile.ZIP_DEFLATED) -> None:
        """Weights whose first array is these bytes, `None`: is not there; the others are as they were."""
        members = [(f"{name}.npy", saved(array)) for name, array in self.arrays.items() if name != self.name]
        if content is not None:
            members.insert(0, (f"{self.name}.npy", content))
        self.weights(zipped([*members, *more], kind))

    def array(self, change: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]) -> None:
        """Weights whose first array of floats is another one."""
        arrays = self.arrays
        name = next(one for one in sorted(arrays) if arrays[one].dtype.kind == "f")
        self.weights(
            zipped([(f"{one}.npy", saved(change(array) if one == name else array)) for one, array in arrays.items()])
        )


def saved(array: np.ndarray[Any, Any]) -> bytes:
    """An array as NumPy writes it; objects as pickles."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asanyarray(array), version=(1, 0) if array.dtype != object else None)
    return buffer.getvalue()


def zipped(members: list[tuple[str, bytes]], kind: int = zipfile.ZIP_DEFLATED) -> bytes:
    """An archive with these members, whatever their names."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", kind) as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content, kind)
    return buffer.getvalue()


def npy(header: str, body: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    """An npy file with any header."""
    text = header.encode() + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text + body


def header(kind: str = "<f4", shape: str = "(4,)", order: str = "False") -> str:
    """What stands at the start of an array."""
    return f"{{'descr': '{kind}', 'fortran_order': {order}, 'shape': {shape}, }}"


def _encrypted(it: Target) -> None:
    content = bytearray((it.directory / "weights.npz").read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.find(mark) + offset] |= 1
    it.weights(bytes(content))


def _flood(it: Target) -> None:
    listed = struct.pack("<4sHHHHHHIIIHHHHHII", b"PK\x01\x02", 20, 20, 0, 0, 0, 33, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    count = 65_000
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, count, count, len(listed) * count, 0, 0)
    it.weights(listed * count + end)


def _twice(it: Target) -> None:
    members = [(f"{name}.npy", saved(array)) for name, array in it.arrays.items()]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in [*members, members[0]]:
            archive.filelist, kept = [], archive.filelist
            archive.NameToInfo = {}
            archive.writestr(name, content)
            archive.filelist = [*kept, *archive.filelist]
    it.weights(buffer.getvalue())


def _instead(it: Target, make: Callable[[Path], object], name: str = "weights.npz") -> None:
    (it.directory / name).unlink()
    make(it.directory / name)


def _sparse(path: Path) -> None:
    with path.open("wb") as stream:
        stream.truncate(TERABYTE)


def _elsewhere(it: Target) -> None:
    """A pickle under another name, and a manifest that asks for it in every way."""
    (it.directory / "evil.npz").write_bytes(it.trap)
    digest = hashlib.sha256(it.trap).hexdigest()
    it.manifest(**dict.fromkeys(("weights", "file", "path", "weights_file"), "evil.npz"), sha256=digest)


ATTACKS: Mapping[str, Callable[[Target], None]] = {
    "a pickle instead of an archive": lambda it: it.weights(it.trap),
    "an array of pickled objects": lambda it: it.member(saved(np.array([Trap(it.canary)], dtype=object))),
    "a pickle under an honest header": lambda it: it.member(npy(header("|O", "(1,)"), it.trap)),
    "a structure with an object in it": lambda it: it.member(
        npy("{'descr': [('x', '|O')], 'fortran_order': False, 'shape': (1,), }", it.trap)
    ),
    "a pickle beside the arrays": lambda it: it.member(saved(it.arrays[it.name]), ("more.pkl", it.trap)),
    "a header that calls": lambda it: it.member(npy(f"__import__('os').system('touch {it.canary}')", bytes(16))),
    "a header without end": lambda it: it.member(npy("[" * 60_000)),
    "a member that climbs out": lambda it: it.member(None, (f"../../{it.canary.name}", b"x")),
    "an absolute member": lambda it: it.member(None, (str(it.canary), b"x")),
    "a member named twice": _twice,
    "a member too few": lambda it: it.member(None),
    "sixty thousand members": _flood,
    "an encrypted member": _encrypted,
    "a bomb of zeros": lambda it: it.member(npy(header(shape="(9000000,)"), bytes(36_000_000))),
    "a bomb behind an honest header": lambda it: it.member(npy(header(), bytes(48_000_000))),
    "a bomb in another compression": lambda it: it.member(npy(header(), bytes(8_000_000)), kind=zipfile.ZIP_BZIP2),
    "a shape of a petabyte": lambda it: it.member(npy(header(shape="(999999999, 999999999)"), bytes(16))),
    "a shape below nothing": lambda it: it.member(npy(header(shape="(-2, -2)"), bytes(16))),
    "columns first": lambda it: it.member(npy(header(shape="(2, 2)", order="True"), bytes(16))),
    "bytes the other way round": lambda it: it.member(npy(header(">f4"), bytes(16))),
    "fewer bytes than it says": lambda it: it.member(npy(header(), bytes(15))),
    "a later version of the header": lambda it: it.member(npy(header(), bytes(16), version=b"\x02\x00")),
    "weights that are no numbers": lambda it: it.array(lambda array: np.full_like(array, np.nan)),
    "weights without end": lambda it: it.array(lambda array: np.full_like(array, np.inf)),
    "a cut archive": lambda it: it.weights((it.directory / "weights.npz").read_bytes()[:-30]),
    "an empty archive": lambda it: it.weights(b"PK\x05\x06" + bytes(18)),
    "another hash": lambda it: it.manifest(sha256="0" * 64),
    "no hash": lambda it: it.manifest(sha256=None),
    "a hash that is a list": lambda it: it.manifest(sha256=["0" * 64]),
    "another file in the manifest": _elsewhere,
    "a manifest without end": lambda it: (it.directory / "manifest.json").write_text("[" * 200_000) and None,
    "a manifest of a pickle": lambda it: (it.directory / "manifest.json").write_bytes(it.trap) and None,
    "a number of a hundred thousand digits": lambda it: (
        (it.directory / "manifest.json").write_text('{"format": %s}' % ("9" * 100_000)) and None
    ),
    "a manifest of a megabyte": lambda it: it.manifest(more="x" * 1_000_000),
    "a name that climbs out": lambda it: it.manifest(name="../../evil"),
    "a name with a line of a log": lambda it: it.manifest(name='x\n{"event":"started"}'),
    "a link to another file": lambda it: _instead(it, lambda path: path.symlink_to("/etc/passwd")),
    "a link to zeros without end": lambda it: _instead(it, lambda path: path.symlink_to("/dev/zero")),
    "a link to itself": lambda it: _instead(it, lambda path: path.symlink_to(path.name)),
    "a pipe for weights": lambda it: _instead(it, os.mkfifo),
    "a pipe for a manifest": lambda it: _instead(it, os.mkfifo, "manifest.json"),
    "a folder for weights": lambda it: _instead(it, Path.mkdir),
    "a terabyte of nothing": lambda it: _instead(it, _sparse),
}
"""What is done to a good artefact. Each is to be refused."""


def _spoken(directory: Path, canary: Path) -> None:
    code = f"import os; os.system('touch {canary}')\n"
    for name in ("__init__.py", "sitecustomize.py", "conftest.py", "numpy.py", "weights.py", "CARD.md", "x.pth"):
        (directory / name).write_text(code, encoding="utf-8")
    (directory / "CARD.md").chmod(0o755)


HARMLESS: Mapping[str, Callable[[Target], None]] = {
    "nothing": lambda _: None,
    "programs beside it": lambda it: _spoken(it.directory, it.canary),
}
"""What leaves it a good one: it loads, and nothing beside it runs."""


def watch() -> None:
    """Load what standard input names: lines of a loader's name and a directory."""
    from classifiers import artefact
    from classifiers.quality import artefact as quality

    def naive(directory: Path) -> object:
        with np.load(directory / "weights.npz", allow_pickle=True) as archive:
            return [archive[name] for name in archive.files]

    loaders: dict[str, Callable[[Path], object]] = {"intent": artefact.load, "quality": quality.load, "naive": naive}
    seen: list[str] = []
    watching = [False]
    sys.addaudithook(lambda event, _: seen.append(event) if watching[0] and event in RUNS else None)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MAX, MEMORY_MAX))
    tracemalloc.start()
    for line in sys.stdin:
        name, _, place = line.rstrip("\n").partition(" ")
        seen.clear()
        tracemalloc.reset_peak()
        before, began = tracemalloc.get_traced_memory()[0], time.monotonic()
        signal.alarm(PATIENCE_S)  # without a handler it ends the process: a load that hangs has no answer
        watching[0] = True
        try:
            loaders[name](Path(place))
            told, kind = "", "loaded"
        except Exception as problem:
            told, kind = str(problem), type(problem).__name__
        watching[0] = False
        signal.alarm(0)
        peak = tracemalloc.get_traced_memory()[1] - before
        found = {"kind": kind, "told": told, "ran": sorted(set(seen)), "peak": peak, "s": time.monotonic() - began}
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    watch()
