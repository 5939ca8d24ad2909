"""Whatever is done to a good file: it loads, or it says what is wrong at places that exist; nothing else gets out."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from service.catalog.check import check
from service.catalog.load import load_bytes
from service.catalog.report import render
from service.errors import RegistryError

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
LINE = re.compile(r"providers\.yaml:(\d+):(\d+): \S.*\Z", re.DOTALL)
WORDS = st.sampled_from(
    [
        "",
        "null",
        "~",
        "[]",
        "{}",
        "[1]",
        "{a: 1}",
        "-1",
        "0",
        "0.5",
        "99999999999999999999",
        ".nan",
        ".inf",
        "1e-6",
        "true",
        "'x'",
        "deepseek",
        "2026-02-30",
        "2026-11-21",
        "0001-01-01",
        "9999-12-31",
        "&a b",
        "*a",
        "!!str x",
        "\t",
        "\n",
        ":",
        "- ",
        "é中",
        '"${env:A}"',
        "24:00-24:00",
    ]
)


@settings(max_examples=250, deadline=None)
@given(data=st.data())
def test_a_mutilated_file_loads_or_explains_itself(example_text: str, data: st.DataObject) -> None:
    """Replace, remove and double words and lines of the example, up to four times."""
    text = example_text
    for _ in range(data.draw(st.integers(1, 4))):
        pieces = re.split(r"(\s+|[,:{}\[\]])", text) if data.draw(st.booleans()) else text.splitlines(keepends=True)
        at = data.draw(st.integers(0, len(pieces) - 1))
        how = data.draw(st.sampled_from(["replace", "remove", "double"]))
        if how == "replace":
            pieces[at] = data.draw(WORDS)
        elif how == "remove":
            del pieces[at]
        else:
            pieces.insert(at, pieces[at])
        text = "".join(pieces)
    lines = text.split("\n")
    problems: tuple[str, ...] = ()
    try:
        catalog = load_bytes(text.encode(), "providers.yaml", {"DEEPSEEK_API_KEY": "k"}, now=NOW)
        assert render(check(catalog, now=NOW))
    except RegistryError as error:
        problems = error.problems or ("an error without a problem",)
    for problem in problems:
        found = LINE.match(problem)
        assert found, problem
        assert 1 <= int(found[1]) <= len(lines) + 1
        assert int(found[2]) >= 1
