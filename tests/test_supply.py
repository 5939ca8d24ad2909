"""What is installed is what was locked (I20): every distribution, every file, nothing that runs unasked at every start."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import sysconfig
from collections.abc import Iterator
from importlib.metadata import Distribution, PathDistribution, distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SITE = Path(sysconfig.get_paths()["purelib"]).resolve()
LOCKS = ("requirements.lock", "requirements-build.lock", "requirements-dev.lock", "requirements-peer.lock")
PINNED = re.compile(r"^([A-Za-z0-9][\w.-]*)(\[[\w,.-]+\])?==([^\s;\\]+)( ; [^\\]+)? ?\\?$")
HASHED = re.compile(r"^    --hash=sha256:[0-9a-f]{64}( \\)?$")

STARTS = {"coverage": "measures child processes when it is told to", "setuptools": "stands in for distutils"}
"""Who may have a line that runs at every start of the interpreter (in a `.pth` file), and why. None of them serves."""

OURS = {"coe-router", "pip"}
"""Installed without a lock: the project itself, and what installs."""


def plain(name: str) -> str:
    """A distribution's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(name: str) -> dict[str, set[str]]:
    """Versions by name in a lock file (one for each Python that needs its own).

    Every line has to be one of the three kinds that are known.
    """
    found: dict[str, set[str]] = {}
    for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
        pinned = PINNED.match(line)
        if pinned:
            found.setdefault(plain(pinned[1]), set()).add(pinned[3])
        else:
            assert HASHED.match(line) or re.match(r"^ +# ", line), f"{name} has a line that is no pin: {line!r}"
    return found


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_has_pins_and_hashes_and_nothing_else(name):
    """No address, no option, no other file, no package without a hash."""
    assert len(locked(name)) >= 2
    text = (ROOT / name).read_text(encoding="utf-8")
    for block in re.split(r"\n(?=[A-Za-z0-9])", text):
        assert "--hash=sha256:" in block, block.splitlines()[0]


def test_what_is_installed_is_locked():
    """No distribution beside the locks, none of another version, none of those that serve missing."""
    wanted = {name: versions for lock in LOCKS[:3] for name, versions in locked(lock).items()}
    found = {plain(one.name): one.version for one in distributions(path=[str(SITE)])}
    assert [
        f"{name} {one}" for name, one in found.items() if name not in OURS and one not in wanted.get(name, ())
    ] == []
    elsewhere = {"colorama", "tzdata", "async-timeout"}  # for Windows alone, and for a Python before 3.11.3
    assert set(locked("requirements.lock")) - set(found) <= elsewhere


def problems(site: Path, whole: set[str]) -> Iterator[str]:
    """What is not as the wheels brought it. Of the distributions in `whole` every byte is compared."""
    owned: set[str] = set()
    for one in distributions(path=[str(site)]):
        yield from _changed(one, owned, whole=plain(one.name) in whole)
    for folder, folders, files in os.walk(site):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for path in (os.path.join(folder, name) for name in sorted(files)):  # noqa: PTH118 # ten thousands of them
            if path not in owned:
                yield f"{os.path.relpath(path, site)} belongs to nobody"


def _changed(one: Distribution, owned: set[str], *, whole: bool) -> Iterator[str]:
    for file in one.files or ():
        path = Path(os.path.normpath(str(one.locate_file(file))))
        owned.add(str(path))
        if path.suffix == ".pth" and plain(one.name) not in {*STARTS, "coe-router"}:
            yield f"{path.name} of {one.name} runs at every start"
        if path.name in ("sitecustomize.py", "usercustomize.py"):
            yield f"{path.name} of {one.name} runs at every start"
        if whole and file.hash is not None and file.hash.mode == "sha256":
            digest = base64.urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest()).rstrip(b"=").decode()
            if digest != file.hash.value:
                yield f"{file} of {one.name} was changed"


def test_every_file_is_as_it_was_published():
    """Of what serves, every byte; of everything, no file that no wheel brought, and nothing more that runs by itself."""
    assert list(problems(SITE, set(locked("requirements.lock")))) == []


def test_nothing_that_serves_runs_by_itself():
    """The lines that do are known, and the project's own only names a folder."""
    serving = set(locked("requirements.lock"))
    assert not serving & set(STARTS)
    for path in SITE.glob("*.pth"):
        lines = path.read_text(encoding="utf-8").splitlines()
        if "coe_router" in path.name:
            assert not [line for line in lines if line.startswith(("import ", "import\t"))]


def test_what_was_slipped_in_is_found(tmp_path):
    """Positive control: a changed byte, a file of nobody's, a `.pth` and a `sitecustomize` that a wheel brought."""
    (held,) = [one for one in distributions(path=[str(SITE)]) if plain(one.name) == "annotated-types"]
    assert isinstance(held, PathDistribution)
    for file in held.files or ():
        if ".." not in str(file) and "__pycache__" not in str(file):
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(str(held.locate_file(file)), tmp_path / file)
    assert list(problems(tmp_path, {"annotated-types"})) == []
    with (tmp_path / "annotated_types" / "__init__.py").open("a", encoding="utf-8") as module:
        module.write("\n")
    (tmp_path / "loose.pth").write_text("import os", encoding="utf-8")
    (record,) = tmp_path.glob("*.dist-info/RECORD")
    with record.open("a", encoding="utf-8") as listed:
        listed.write("brought.pth,,\nsitecustomize.py,,\n")
    for name in ("brought.pth", "sitecustomize.py"):
        (tmp_path / name).write_text("import os", encoding="utf-8")
    assert sorted(problems(tmp_path, {"annotated-types"})) == [
        "annotated_types/__init__.py of annotated-types was changed",
        "brought.pth of annotated-types runs at every start",
        "loose.pth belongs to nobody",
        "sitecustomize.py of annotated-types runs at every start",
    ]
