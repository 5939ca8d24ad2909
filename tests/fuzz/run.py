"""Fuzz one target, guided by what of the code is reached: libFuzzer by way of atheris.

    .venv/bin/python tests/fuzz/run.py --target sse --seconds 600 [--seed 1] [--corpus DIR]
    .venv/bin/python tests/fuzz/run.py --target sse --input FILE           # one input again, with its traceback
    .venv/bin/python tests/fuzz/run.py --target sse --seconds 60 --blind   # mutate the seeds without guidance

`targets` says what must hold. atheris lives in `.venv-fuzz` (`make .venv-fuzz/.done`), where this goes on by itself;
without it `--blind` is what there is. It stops at the first input that breaks a promise, leaves it beside the seeds, and
ends with 1: with its cause mended, that file is kept there as a test. What else was found to reach something new goes to
`--corpus`, from where another run goes on.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
OWN = ROOT / ".venv-fuzz" / "bin" / "python"
UNAVAILABLE = 69
TIMEOUT_S = 30
RSS_MB = 1_024

sys.path[:0] = [str(ROOT), str(ROOT / "tests")]


@dataclass(frozen=True, slots=True)
class Run:
    """What came of it: executions, edges and features reached, inputs kept, the input that broke a promise."""

    target: str
    seconds: int
    executions: int
    edges: str
    corpus: str
    broken: Path | None

    TITLE = "| target | seconds | executions | branches reached | inputs that reach something new | not as promised |\n|---|--:|--:|--:|--:|--:|"

    def row(self) -> str:
        """As a line of a table."""
        return f"| {self.target} | {self.seconds} | {self.executions:,} | {self.edges} | {self.corpus} | {int(self.broken is not None)} |"


def guided(target: str, seconds: int, seed: int, corpus: Path | None) -> Run:
    """Run libFuzzer in a process of its own."""
    from fuzz import blind

    with tempfile.TemporaryDirectory(prefix="coe-fuzz-") as scratch:
        kept = corpus or Path(scratch)
        kept.mkdir(parents=True, exist_ok=True)
        found = HERE / "seeds" / target / "found-"
        before = set(found.parent.iterdir())
        done = subprocess.Popen(
            [
                str(_python()), str(Path(__file__)), "--target", target, "--inside", "--",
                str(kept), str(found.parent), f"-max_total_time={seconds}", f"-seed={seed}", f"-dict={blind.words_file(target)}",
                f"-artifact_prefix={found}", f"-max_len={blind.BYTES_MAX}", f"-timeout={TIMEOUT_S}", f"-rss_limit_mb={RSS_MB}",
                "-print_final_stats=1", "-reload=0",
            ],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        )  # fmt: skip
        assert done.stdout is not None
        lines = []
        for line in done.stdout:
            lines.append(line)
            if sys.stderr.isatty() or not line.startswith("#"):
                sys.stderr.write(line)
        done.wait()
        text = "".join(lines)
        new = sorted(set(found.parent.iterdir()) - before)
        if done.returncode != 0 and not new:
            raise SystemExit(f"the fuzzer ended with {done.returncode} and left no input")
    told = re.findall(r"cov: (\d+) ft: \d+ corp: (\d+)", text)
    executions = re.search(r"stat::number_of_executed_units:\s+(\d+)", text) or re.search(r"Done (\d+) runs", text)
    edges, inputs = told[-1] if told else ("?", "?")
    return Run(target, seconds, int(executions[1]) if executions else 0, edges, inputs, new[0] if new else None)


def inside(target: str, arguments: list[str]) -> None:
    """The fuzzer's own process: instrument what is imported, and never return."""
    import atheris

    with atheris.instrument_imports(include=["service"]):
        from fuzz.targets import TARGETS
    atheris.Setup([sys.argv[0], *arguments], TARGETS[target])
    atheris.Fuzz()


def blindly(target: str, seconds: int, seed: int) -> Run:
    """Mutate the seeds for so long."""
    from fuzz import blind
    from fuzz.targets import TARGETS

    due, count = time.monotonic() + seconds, 0
    for count, data in enumerate(blind.inputs(target, seed), 1):
        try:
            TARGETS[target](data)
        except Exception:
            left = HERE / "seeds" / target / f"found-{seed}-{count}"
            left.write_bytes(data)
            return Run(target, seconds, count, "not counted", "0", left)
        if time.monotonic() > due:
            break
    return Run(target, seconds, count, "not counted", "0", None)


def _python() -> Path:
    """An interpreter that has atheris."""
    return Path(sys.executable) if importlib.util.find_spec("atheris") else OWN


def parsed() -> Any:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", choices=("sse", "request", "registry"), required=True)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=20261122)
    parser.add_argument("--corpus", type=Path, help="keep what reaches something new, and go on from it")
    parser.add_argument("--input", type=Path, help="run this input alone")
    parser.add_argument("--blind", action="store_true", help="without guidance, and so without atheris")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("rest", nargs="*", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    """See the module."""
    asked = parsed()
    if asked.inside:
        inside(asked.target, asked.rest)
    if asked.input is not None:
        from fuzz.targets import TARGETS

        TARGETS[asked.target](asked.input.read_bytes())
        sys.stdout.write("as promised\n")
        return 0
    if not asked.blind and not _python().exists():
        sys.stderr.write(
            "atheris is not installed here: run `make .venv-fuzz/.done` (Linux), or mutate without guidance with --blind\n"
        )
        return UNAVAILABLE
    run = (
        blindly(asked.target, asked.seconds, asked.seed)
        if asked.blind
        else guided(asked.target, asked.seconds, asked.seed, asked.corpus)
    )
    sys.stdout.write(f"{Run.TITLE}\n{run.row()}\n")
    if run.broken is not None:
        again = f".venv/bin/python tests/fuzz/run.py --target {run.target} --input {os.path.relpath(run.broken)}"
        sys.stdout.write(f"again: {again}\n")
    return int(run.broken is not None)


if __name__ == "__main__":
    sys.exit(main())
