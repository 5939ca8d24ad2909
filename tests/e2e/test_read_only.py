"""A root that can't be written and a user who may nothing, shown by the kernel: what the image promises (I20).

The router runs as uid 10001 without a capability to write, in a mount namespace in which everything but its data
directory is read-only, /tmp too. It needs root to set that up, and skips with the reason where there is none.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx
import pytest
from stage import ROOT, clean_environment, start_router

UID = 10_001
CAP_DAC_READ_SEARCH = 1 << 2

READ_ONLY = """
set -eu
kept=$1; shift
mount --bind "$kept" "$kept"
sed 's/^[^ ]* [^ ]* [^ ]* [^ ]* \\([^ ]*\\) .*/\\1/' /proc/self/mountinfo | sort -u | while read -r place; do
    place=$(printf '%b' "$place")
    [ "$place" = "$kept" ] || mount -o remount,bind,ro "$place"
done
exec "$@"
"""
"""$1 stays writable, everything else is mounted read-only; then the rest of the arguments is run."""

# The interpreter of a development machine may lie in somebody's home: it may be read, which writes nothing.
NOBODY = (
    "setpriv",
    *(f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "--no-new-privs"),
    *(f"--{kind}=-all,+dac_read_search" for kind in ("bounding-set", "inh-caps", "ambient-caps")),
)


def read_only(kept):
    """The command that runs another where everything but a directory is read-only."""
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", READ_ONLY, "sh", str(kept)]


def why_not():
    """Why this can't be played here, or `None`."""
    missing = [tool for tool in ("unshare", "mount", "setpriv") if shutil.which(tool) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    tried = subprocess.run([*read_only(Path.cwd()), *NOBODY, "true"], capture_output=True, check=False)
    return None if tried.returncode == 0 else f"namespaces are not allowed here: {tried.stderr.decode().strip()[:200]}"


pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


@pytest.fixture
def data(tmp_path):
    """An empty directory that is the user's own."""
    made = tmp_path / "data"
    made.mkdir(mode=0o700)
    os.chown(made, UID, UID)
    return made


def test_nobody_special_serves_from_a_root_that_can_not_be_written(data):
    """A simulated answer, settled in a journal that is the only thing written; SIGTERM ends it with 0."""
    router = start_router(data, None, "--simulate", under=[*read_only(data), *NOBODY], PYTHONDONTWRITEBYTECODE="1")
    try:
        check_process(router.process.pid, data)
        answer = httpx.post(
            f"{router.url}/v1/chat/completions",
            json={"model": "auto", "messages": [{"role": "user", "content": "What is the capital of France?"}]},
            timeout=20,
            trust_env=False,
        )
    finally:
        ended = router.stop()
    assert (answer.status_code, answer.headers["x-coe-simulated"], ended) == (200, "true", 0)
    ((_, (end,)),) = router.attempts(answer.headers["x-coe-decision-id"])
    assert end["state"] == "settled"
    written = [one for one in data.rglob("*") if one != router.log]
    assert written
    assert {one.stat().st_uid for one in written} == {UID}


def check_process(pid, data):
    """It is who it should be, may read and nothing more, and sees one place that can be written."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    assert set(status["Uid"].split()) == {str(UID)}
    assert int(status["CapEff"], 16) & ~CAP_DAC_READ_SEARCH == 0
    mounts = [line.split() for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]
    uppermost = {one[4]: one[5].split(",") for one in mounts}  # what lies under another mount can't be reached
    assert [place for place, flags in uppermost.items() if "rw" in flags] == [str(data)]


def test_a_data_directory_that_can_not_be_written_is_told(data, tmp_path):
    """The positive control: with that one read-only too it does not start, and says why."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = subprocess.run(
        [*read_only(elsewhere), *NOBODY, sys.executable, "-m", "service", "serve", "--simulate"],
        env=clean_environment(COE_DATA_DIR=str(data), PYTHONDONTWRITEBYTECODE="1"),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 73
    assert str(data) in done.stderr.decode()


def test_the_stage_is_read_only_for_root_too(data, tmp_path):
    """Where even root is refused by the file system itself, no permission has to be relied upon."""
    tried = [ROOT / "service", Path("/"), Path(tempfile.gettempdir()), Path.home(), tmp_path, data]
    program = (
        "import errno, json, sys\nfound = {}\nfor place in sys.argv[1:]:\n"
        "    try:\n        open(place + '/.probe', 'w').close(); found[place] = 0\n"
        "    except OSError as problem:\n        found[place] = problem.errno\nprint(json.dumps(found))\n"
    )
    done = subprocess.run(
        [*read_only(data), sys.executable, "-c", program, *map(str, tried)], capture_output=True, check=True
    )
    found = json.loads(done.stdout)
    assert found.pop(str(data)) == 0
    assert set(found.values()) == {errno.EROFS}
