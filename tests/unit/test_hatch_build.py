"""The build hook, by real builds of a small project that has the real pyproject.toml: with a compiler and without one."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest
from stage import ROOT, clean_environment

TINY = """
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#ifdef __FAST_MATH__
#error "floats may be reordered"
#endif
static volatile double near_one[2] = {1 + 0x1p-30, 1 - 0x1p-30}, denormal = 0x1p-1060;
/* 0 when the product is rounded by itself, as NumPy does it; -2^-60 when it is contracted with the sum; 1 when denormals
 * were switched off for the process. */
static PyObject *residue(PyObject *self, PyObject *none) {
    double left = near_one[0], right = near_one[1];
    return PyFloat_FromDouble(left * right - 1 + (denormal * 0.5 == 0));
}
static PyMethodDef methods[] = {{"residue", residue, METH_NOARGS, NULL}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "classifiers._kernel", NULL, -1, methods};
PyMODINIT_FUNC PyInit__kernel(void) { return PyModule_Create(&module); }
"""
SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")
STALE = (f"_kernel{SUFFIX}", "_kernel.cpython-36m-x86_64-linux-gnu.so", f"_kernel{SUFFIX}.new")
WITHOUT_HEADERS = """#!/bin/sh
# The compiler, except that no directory with headers is named to it.
for one; do shift; case $one in -I*) ;; *) set -- "$@" "$one" ;; esac; done
exec {} "$@"
"""
CC = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
with_compiler = pytest.mark.skipif(shutil.which(CC[0]) is None, reason=f"there is no C compiler here ({CC[0]})")


@pytest.fixture
def project(tmp_path):
    """The packaging of this project around a tiny kernel, as the image has it; modules of earlier builds lie beside it."""
    place = tmp_path / "project"
    place.mkdir()
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "providers.yaml"):
        shutil.copyfile(ROOT / name, place / name)
    for package in ("service", "classifiers"):
        (place / package).mkdir()
        (place / package / "__init__.py").touch()
    (place / "classifiers" / "_kernel.c").write_text(TINY, encoding="utf-8")
    for name in STALE:
        (place / "classifiers" / name).write_bytes(b"stale")
    return place


def build(project: Path, target: str, *options: str, **env: str) -> tuple[Path | None, str]:
    """What a build of the target wrote, and all that it said besides; it must succeed."""
    place = project.parent / "dist"
    shutil.rmtree(place, ignore_errors=True)
    env = {"CC": shlex.join(CC), **env, "PYTHONPATH": ""}
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(place), *options],
        cwd=project,
        env=clean_environment(**env),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    written = next(place.iterdir(), None)
    said = [line for line in (done.stdout + done.stderr).splitlines(keepends=True) if line.strip() != str(written)]
    return written, "".join(said)


def residue(place: Path) -> str:
    """What the module under `place` computes, in a process of its own."""
    code = "from classifiers import _kernel; print(_kernel.__file__, _kernel.residue())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=place,
        env=clean_environment(PYTHONPATH=str(place)),
        capture_output=True,
        text=True,
        check=True,
    )
    file, number = done.stdout.split()
    assert Path(file) == place / "classifiers" / f"_kernel{SUFFIX}"
    return number


def compiled(names: list[str]) -> list[str]:
    """Those that Python might load, or that were on the way to it."""
    return [name for name in names if "_kernel" in name and not name.endswith(".c")]


@with_compiler
def test_a_wheel_holds_the_module_of_this_build(project, tmp_path):
    """It alone, loadable, and the tag says which Python and which platform it is for."""
    wheel, said = build(project, "wheel")
    version = f"cp{sys.version_info.major}{sys.version_info.minor}"
    assert f"-{version}-" in wheel.name
    assert not wheel.name.endswith("-any.whl")
    assert said == ""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        assert compiled(names) == [f"classifiers/_kernel{SUFFIX}"]
        metadata = next(name for name in names if name.endswith(".dist-info/WHEEL"))
        assert b"Root-Is-Purelib: false" in archive.read(metadata)
    shutil.unpack_archive(wheel, tmp_path / "installed", "zip")
    assert residue(tmp_path / "installed") == "0.0"
    assert (project / "classifiers" / STALE[0]).read_bytes() == b"stale", "a wheel is no business of the source tree"


def no_compiler(_: Path) -> tuple[str, str]:
    """A machine where none is installed."""
    return "no-such-compiler", "there is no C compiler (no-such-compiler was not found)"


def no_headers(place: Path) -> tuple[str, str]:
    """A machine with a compiler, but without python3-dev."""
    script = place / "cc-without-headers"
    script.write_text(WITHOUT_HEADERS.format(shlex.join(CC)), encoding="utf-8")
    script.chmod(0o700)
    return str(script), "the headers of this Python are missing (Python.h"


def broken_compiler(_: Path) -> tuple[str, str]:
    """One that can't be used at all and does not say why."""
    return shutil.which("false"), "false"


MISSING = [no_compiler, pytest.param(no_headers, marks=with_compiler), broken_compiler]


@pytest.mark.parametrize("missing", MISSING)
def test_without_a_kernel_one_line_says_why(project, tmp_path, missing):
    """The wheel is pure and has no module, not even one that lies around; the line says what is missing and what it means."""
    cc, reason = missing(tmp_path)
    wheel, said = build(project, "wheel", CC=cc)
    assert said.startswith("WARNING: classifiers/_kernel.c was not compiled: ")
    assert said.count("\n") == 1
    assert reason in said
    assert "several times as long to read a prompt" in said
    assert wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert compiled(archive.namelist()) == []


@with_compiler
def test_an_error_in_the_c_file_is_told_with_its_line(project):
    """A compiler that refuses the file says where; the line is not hidden behind setuptools."""
    (project / "classifiers" / "_kernel.c").write_text("\nint broken(\n", encoding="utf-8")
    _, said = build(project, "wheel")
    assert "was not compiled: classifiers/_kernel.c:" in said
    assert said.count("\n") == 1


@with_compiler
def test_an_editable_installation_has_its_module_beside_the_source(project):
    """Compiled as `make` does it. A running router keeps the file it has mapped: the new one takes its place in one step."""
    beside = project / "classifiers" / STALE[0]
    with beside.open("rb") as mapped:
        written, said = build(project, "wheel:editable", "--hooks-only")
        assert (written, said) == (None, "")
        assert residue(project) == "0.0"
        assert mapped.read() == b"stale"
    assert not (project / "classifiers" / STALE[2]).exists()


def test_an_editable_installation_without_a_compiler_keeps_no_module_of_another_source(project):
    """The one that lies there was made from a C file that is gone. That of another Python is not ours to judge."""
    _, said = build(project, "wheel:editable", "--hooks-only", CC="no-such-compiler")
    assert "no-such-compiler was not found" in said
    assert not (project / "classifiers" / STALE[0]).exists()
    assert (project / "classifiers" / STALE[1]).exists()


@with_compiler
def test_floats_are_computed_as_written_whatever_cflags_say(project):
    """Neither fast math nor a fused multiply-add, on a processor that has one: the twin in NumPy has neither."""
    native = "-march=native" if platform.machine() == "x86_64" else ""  # elsewhere compilers fuse by default
    _, said = build(project, "wheel:editable", "--hooks-only", CFLAGS=f"-ffast-math -ffp-contract=fast {native}")
    assert said == ""
    assert residue(project) == "0.0"


def test_an_sdist_can_be_built_from(project):
    """It carries the C file and the hook, and nothing that was compiled here."""
    sdist, _ = build(project, "sdist")
    with tarfile.open(sdist) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    assert {"hatch_build.py", "classifiers/_kernel.c"} <= set(names)
    assert compiled(names) == []
