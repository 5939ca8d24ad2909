"""The house rules that no linter knows: sizes, names, docstrings, mirrored tests, tables, settings, locks, secrets."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted(path for top in ("service", "classifiers") for path in (ROOT / top).rglob("*.py"))
LINES_MAX = 400
FUNCTION_LINES_MAX = 70
FORBIDDEN_NAMES = {"utils", "helpers", "manager", "handler", "common", "misc"}


def _ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", SOURCES, ids=_ids)
def test_a_file_is_one_idea(path):
    """At most 400 lines a file, 70 a function; the module says what it is for."""
    lines = path.read_text(encoding="utf-8").count("\n")
    assert lines <= LINES_MAX, f"{path} has {lines} lines: split it"
    tree = _tree(path)
    assert ast.get_docstring(tree), f"{path} has no module docstring"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= FUNCTION_LINES_MAX, f"{path}:{node.lineno} {node.name} has {length} lines"


@pytest.mark.parametrize("path", SOURCES, ids=_ids)
def test_names_say_what_they_are(path):
    """No module called utils, helpers, manager, handler, common or misc."""
    assert path.stem not in FORBIDDEN_NAMES


def test_the_domain_needs_nothing_but_the_standard_library():
    """Floor 0 imports the standard library and itself."""
    for path in [*(ROOT / "service" / "domain").glob("*.py"), ROOT / "service" / "errors.py"]:
        for node in ast.walk(_tree(path)):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in names:
                top = name.partition(".")[0]
                allowed = top in sys.stdlib_module_names or name.startswith(("service.domain", "service.errors"))
                assert allowed, f"{path.name} imports {name}"


def test_only_config_reads_the_environment():
    """`os.environ` and `os.getenv` appear in config.py alone."""
    for path in SOURCES:
        if path.name == "config.py":
            continue
        for node in ast.walk(_tree(path)):
            if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv", "environb"):
                value = node.value
                assert not (isinstance(value, ast.Name) and value.id == "os"), (
                    f"{path}:{node.lineno} reads the environment"
                )


def test_nothing_can_execute_a_model_file():
    """No pickle, no marshal, no eval, and every npz is loaded without pickles."""
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"^\s*(import|from) (pickle|marshal|dill|joblib|cloudpickle)\b", text, re.MULTILINE), path
        for call in re.findall(r"np\.load\([^)]*\)", text):
            assert "allow_pickle=False" in call, f"{path}: {call}"


def _tests() -> Iterator[Path]:
    yield from (ROOT / "tests").rglob("test_*.py")


@pytest.mark.parametrize("path", [p for p in SOURCES if p.name not in ("__init__.py", "__main__.py")], ids=_ids)
def test_every_source_file_is_mirrored_by_a_test(path):
    """service/x/y.py is tested in tests/unit/service/x/test_y.py, so that anybody finds the test of a file."""
    mirror = ROOT / "tests" / "unit" / path.relative_to(ROOT).parent / f"test_{path.name}"
    assert mirror.exists(), f"write {mirror.relative_to(ROOT)}"


def test_locks_have_hashes_and_no_index():
    """Every locked package has a hash; no URL of an index is in a lock file."""
    for kind in ("", "-build", "-dev", "-peer", "-fuzz"):
        name = f"requirements{kind}.lock"
        text = (ROOT / name).read_text(encoding="utf-8")
        assert "://" not in text, f"{name} names an address"
        assert "--index" not in text
        blocks = re.split(r"\n(?=[a-zA-Z0-9])", text.strip())
        for block in blocks:
            if re.match(r"[a-zA-Z0-9][\w.\-\[\]]*==", block):
                assert "--hash=sha256:" in block, f"{name}: {block.splitlines()[0]} has no hash"


def test_the_javascript_lock_has_hashes_and_no_index():
    """Every package has its hash, is exactly as asked for, and is fetched from wherever npm is told to."""
    folder = ROOT / "tests" / "javascript"
    text = (folder / "package-lock.json").read_text(encoding="utf-8")
    assert "://" not in text
    asked, *packages = json.loads(text)["packages"].values()
    assert packages
    assert all(one["integrity"].startswith("sha512-") and "resolved" not in one for one in packages)
    assert asked["dependencies"] == json.loads((folder / "package.json").read_text(encoding="utf-8"))["dependencies"]
    assert asked["dependencies"] == {"openai": packages[0]["version"]}


def test_no_test_is_switched_off():
    """No skip that has no named condition, no xfail, nothing left to do later."""
    marker = re.compile(r"pytest\.mark\.(skip\b|xfail)|\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
    for path in [*_tests(), *SOURCES]:
        if path == Path(__file__):
            continue
        found = marker.search(path.read_text(encoding="utf-8"))
        assert found is None, f"{path}: {found.group(0) if found else ''}"


def test_every_ignore_has_its_reason():
    """`type: ignore` and `noqa` name a code and say why."""
    for path in SOURCES:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if "# type: ignore" in line:
                assert re.search(r"# type: ignore\[[\w\-, ]+\]\s*# \S", line), f"{path}:{number}: say why"
            if "# noqa" in line:
                assert re.search(r"# noqa: [A-Z0-9, ]+\s*[#-] \S", line), f"{path}:{number}: say why"


def test_make_has_at_most_ten_targets():
    """A newcomer reads the whole list at once."""
    listed = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert 5 <= len(listed.strip().splitlines()) <= 10
