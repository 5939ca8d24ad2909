"""The build hook: compiles `classifiers/_kernel.c` where that can be done, and says why where it can't.

Where: hatchling runs it before it writes a wheel or an editable installation; an sdist carries it and the C file.
`make` runs it by itself, because pip hides what a build says. A process of its own does the compiling, `python
hatch_build.py PLACE`: what setuptools and the compiler print ends there, and one line is made of it.

Invariants:
1. No compiler, no Python headers: the installation succeeds without the kernel, and one line says what is missing.
2. A wheel holds the module that this very build made, or none, and its tag says which. What other builds left beside
   the C file stays out (`exclude` in pyproject.toml).
3. An editable installation has its module beside the C file. It takes its predecessor's place in one step, because a
   running router has that one mapped. Where the C file can't be compiled the predecessor goes: its source was another.
4. Floats are computed as written, neither contracted nor reordered: the kernel and its NumPy twin give the same bits.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import shorten
from typing import Any

from hatchling.builders.config import BuilderConfig
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE = "classifiers/_kernel.c"
MODULE = f"classifiers/_kernel{sysconfig.get_config_var('EXT_SUFFIX')}"
"""Where this Python looks for the module, from the root of the project and of the wheel."""
FLAGS = ("-O3", "-fno-fast-math", "-ffp-contract=off")
"""For gcc and clang, after those of CFLAGS, so that these win; contraction last, for some compilers reset it with the
other. When linking too, or -ffast-math there would switch denormals off for the whole process. Microsoft's compiler
computes as written by default."""
SOURCES = "classifiers/_kernel*.[ch]"
REASON_CHARS_MAX = 200
WARNING = (
    f"WARNING: {SOURCE} was not compiled: {{reason}}. The router works without, but takes several times as long to "
    "read a prompt. To change that, install a C compiler and the headers of this Python, then install the router again "
    "(in a checkout: touch hatch_build.py; make check)."
)


class KernelHook(BuildHookInterface[BuilderConfig]):
    """What hatchling calls; one object per build."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, then put the module where a `version` ("standard" or "editable") of the wheel has it."""
        self._place = TemporaryDirectory(prefix="coe-kernel-")
        built = Path(self._place.name, MODULE)
        reason = attempt(self.root, self._place.name)
        if reason:
            self.app.display_warning(WARNING.format(reason=reason))
        if version == "editable":
            settle(None if reason else built, Path(self.root, MODULE))
            self._place.cleanup()
        elif not reason:
            build_data["force_include"][str(built)] = MODULE
            build_data["pure_python"] = False
            build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002 - hatchling's
        """Remove what was compiled; the wheel has been written."""
        self._place.cleanup()


def attempt(root: str, place: str) -> str:
    """Compile SOURCE of the project at `root` into `place`; the reason why there is no module, "" when there is one."""
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "")  # none named on Windows
    if compiler and shutil.which(compiler[0]) is None:
        return f"there is no C compiler ({compiler[0]} was not found)"
    done = subprocess.run(  # noqa: S603 - this very file
        [sys.executable, str(Path(__file__).resolve()), place],
        cwd=root,
        env={**os.environ, "LC_ALL": "C"},  # the reason is looked for in English
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    return "" if done.returncode == 0 else why(done.stdout)


def why(said: str) -> str:
    """The reason in all that was said on the way to a failure: the first error of the compiler, or the last words."""
    if re.search(r"error.*\bPython\.h\b", said):
        return "the headers of this Python are missing (Python.h; python3-dev or python3-devel on Linux)"
    lines = said.strip().splitlines() or ["the compiler failed and said nothing"]
    line = next((line for line in lines if re.search(r"\berror\b.*: ", line)), lines[-1])
    line = re.sub(r"\['([^']*)'.*\]", r"\1", line)  # the command without its many arguments
    return shorten(line, REASON_CHARS_MAX).rstrip(".")


def settle(built: Path | None, beside: Path) -> None:
    """Let `built` take the place of `beside` in one step; without one, nothing stands there."""
    if built is None:
        beside.unlink(missing_ok=True)
        return
    staged = beside.with_name(beside.name + ".new")
    shutil.copyfile(built, staged)
    staged.replace(beside)


def digest(root: Path) -> str:
    """What the C files are, in 16 hex characters; `classifiers.kernel` says the same of the files beside it."""
    found = hashlib.sha256()
    for path in sorted(root.glob(SOURCES)):
        found.update(path.read_bytes())
    return found.hexdigest()[:16]


def build(place: str) -> None:
    """Compile SOURCE, from the working directory, into `place`; raises what setuptools raises."""
    from setuptools import Distribution, Extension  # noqa: PLC0415 - only here: hatchling's process needs none of it
    from setuptools.command.build_ext import build_ext  # noqa: PLC0415 - the same

    is_windows = sysconfig.get_platform().startswith("win")
    flags = [] if is_windows else [*FLAGS]
    kernel = Extension(
        "classifiers._kernel",
        [SOURCE],
        depends=[str(one) for one in Path().glob(SOURCES)],
        define_macros=[("COE_SOURCES", f'"{digest(Path())}"')],
        libraries=[] if is_windows else ["m"],
        extra_compile_args=flags,
        extra_link_args=flags,
    )
    command = build_ext(Distribution({"ext_modules": [kernel]}))
    command.build_lib = place
    command.build_temp = str(Path(place, "objects"))
    command.ensure_finalized()
    command.run()


if __name__ == "__main__":
    build(sys.argv[1])
