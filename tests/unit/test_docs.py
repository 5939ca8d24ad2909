"""The reference pages are complete: names in the code and names in the page are compared both ways."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click
import pytest
from scenery import NOW, WordClassifier, a_catalog, a_chat, a_model, an_intent

from service import telemetry
from service.api.steering import read_steering
from service.app import build
from service.cli import cli
from service.cli import exits as exit_codes
from service.config import Settings, variable
from service.domain.access import ANONYMOUS
from service.domain.chat import Steering
from service.domain.decision import Draw
from service.domain.experience import Experience
from service.domain.features import features_of
from service.ledger import cost_lines
from service.routing.explain import record
from service.routing.router import decide
from service.routing.screen import LEVERS
from service.routing.weighing import Circumstances
from service.startup import open_keys

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "docs"
NOT_OVER_HTTP = {"keys_busy", "keys_unwritable"}
"""Codes of `coe keys`, which writes; a router only reads keys."""


def rows(page: str, title: str | None = None) -> list[list[str]]:
    """The table rows of a page, or of one of its sections: cells without their back-ticks."""
    text = (PAGES / page).read_text(encoding="utf-8")
    if title is not None:
        text = re.split(r"\n## ", text.partition(f"\n## {title}\n")[2])[0]
        assert text, f"{page} has no section {title!r}"
    found = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line[:1] == "|"]
    return [[cell.strip("`| ") for cell in row] for row in found[2:]]


def names(page: str, title: str | None = None) -> list[str]:
    """The first column."""
    return [row[0] for row in rows(page, title)]


def test_settings():
    """Every field, its default and nothing else."""
    told = {row[0]: row[1] for row in rows("settings.md")}
    assert set(told) == {variable(name) for name in Settings.model_fields}
    for name, field in Settings.model_fields.items():
        if field.default is not None:
            default = str(field.default).lower() if isinstance(field.default, bool) else str(field.default)
            assert told[variable(name)] == default, name


def test_log_events():
    """Every event with every field that its definition names, once."""
    assert len(names("logs.md")) == len(set(names("logs.md")))
    told = {row[0]: set(re.findall(r"`(\w+)`", "`" + row[2] + "`" if len(row) > 2 else "")) for row in rows("logs.md")}
    assert set(told) == set(telemetry.EVENTS)
    for event, meaning in telemetry.EVENTS.items():
        fields = {one.strip() for one in meaning.partition("fields: ")[2].split(",")} - {""}
        assert told[event] == fields, event


def test_metrics():
    """Every metric with its meaning, once."""
    assert len(names("metrics.md")) == len(telemetry.METRICS)
    assert {row[0]: row[1] for row in rows("metrics.md")} == telemetry.METRICS


def test_lines_of_the_cost_log():
    """Every field of both kinds of line with its meaning, once."""

    def told(title):
        section = (PAGES / "costs.md").read_text(encoding="utf-8").partition(f"\n### {title}\n")[2]
        found = re.findall(r"^\| `(\w+)` \| (.+) \|$", re.split(r"\n##", section)[0], re.MULTILINE)
        assert len(found) == len(dict(found))
        return dict(found)

    both = told("Fields of both")
    assert both == cost_lines.BOTH
    assert both | told("Fields of an attempt alone") == cost_lines.ATTEMPT
    assert both | told("Fields of a request alone") == cost_lines.REQUEST


def test_parts():
    """Every part of the router with what happens while it is not in order."""
    page = (PAGES / "reliability.md").read_text(encoding="utf-8")
    section = page.partition("## When a part of the router itself fails")[2].partition("\n## ")[0]
    assert dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", section, re.MULTILINE)) == telemetry.PARTS
    header = next(row for row in rows("http.md", "Response headers") if row[0] == "x-coe-degraded")
    assert all(f"`{part}`" in " ".join(header) for part in telemetry.PARTS if part != telemetry.PART_LOG)


def test_routes(tmp_path):
    """Exactly those that are mounted."""
    settings = Settings(data_dir=tmp_path)
    app = build(settings, a_catalog(a_model("m")), open_keys(settings), simulated=False, classifier=WordClassifier())
    mounted = {f"{method.upper()} {path}" for path, methods in app.openapi()["paths"].items() for method in methods}
    assert set(names("http.md", "Routes")) == mounted


def test_fields_of_a_request():
    """Exactly those that the reader takes."""
    told = names("http.md", "What a request may ask of the router")
    for name in told:
        with pytest.raises(Exception, match=re.escape(f"coe.{name}")):
            read_steering({name: object()}, {})
    fields = set(Steering.__dataclass_fields__)
    assert set(told) == {"max_cost_usd" if name == "max_cost_pusd" else name for name in fields}


def strings(tree: ast.AST) -> Iterator[str]:
    """Every string in a piece of code."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def sources(*places: str) -> Iterator[ast.Module]:
    """The parsed files of some places."""
    for place in places:
        path = ROOT / "service" / place
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            yield ast.parse(file.read_text(encoding="utf-8"))


def test_response_headers():
    """Every `x-coe-*` header that the pipeline sets."""
    (tree,) = sources("pipeline.py")
    set_here = {text for text in strings(tree) if re.fullmatch(r"x-coe-[a-z-]+[a-z]", text)}
    assert set(names("http.md", "Response headers")) == set_here


def outcomes(value: ast.expr) -> Iterator[str]:
    """The strings that an expression may evaluate to: itself, either branch, either side of an `or`."""
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        yield value.value
    elif isinstance(value, ast.IfExp):
        yield from (*outcomes(value.body), *outcomes(value.orelse))
    elif isinstance(value, ast.BoolOp):
        yield from (text for one in value.values for text in outcomes(one))


def codes() -> set[str]:
    """Every error code in the code: arguments and attributes called `code` that are given a plain name."""
    found: set[str] = set()
    places = (
        "errors.py",
        "failing.py",
        "api",
        "guard",
        "routing",
        "pipeline.py",
        "settling.py",
        "upstream/protocols",
        "upstream/client.py",
    )
    for tree in sources(*places):
        for node in ast.walk(tree):
            values: list[ast.expr] = []
            if isinstance(node, ast.keyword) and node.arg == "code":
                values = [node.value]
            elif isinstance(node, ast.Assign):
                for target in node.targets:
                    pairs = (
                        zip(target.elts, node.value.elts, strict=True)
                        if (isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple))
                        else [(target, node.value)]
                    )
                    values += [value for one, value in pairs if getattr(one, "id", getattr(one, "attr", "")) == "code"]
            found |= {text for value in values for text in outcomes(value) if re.fullmatch(r"[a-z]+(_[a-z]+)*", text)}
    return found


def test_error_codes():
    """Every code that a caller may meet."""
    told = names("http.md", "Errors")
    assert codes() - NOT_OVER_HTTP == set(told)
    assert len(told) == len(set(told))


def commands(group: click.Group, prefix: str = "coe") -> Iterator[tuple[str, click.Command]]:
    """(full name, command) of every command that does something."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{prefix} {name}")
        else:
            yield f"{prefix} {name}", command


def test_commands_and_options():
    """Every command is a section, every option and argument a row."""
    text = (PAGES / "cli.md").read_text(encoding="utf-8")
    every = dict(commands(cli))
    assert set(re.findall(r"^## (coe .+)$", text, re.MULTILINE)) == set(every)
    for name, command in every.items():
        said = {
            one.opts[0] if isinstance(one, click.Option) else one.name.upper()
            for one in command.params
            if one.name != "help" and not getattr(one, "hidden", False)
        }
        assert set(names("cli.md", name)) == said, name


def test_exit_codes():
    """Every sysexits code of ours, and success."""
    (section,) = [rows("cli.md")]
    told = {row[0] for row in section if row[0].isdigit()}
    assert told == {"0", *(str(value) for name, value in vars(exit_codes).items() if name.startswith("EX_"))}


def decided_with_everything():
    """A decision whose record has every field that there is: a cost limit, a budget, a warm prefix, a learned quality."""
    models = (
        a_model("m", (9, 9), rates={"cache_read": 10**6, "cache_write_5m": 10**7}),
        a_model("n", (10, 10)),
        a_model("o", (999, 999)),
    )
    known = Experience(qualities={"m": 9_000}, warm_tokens={"p/m": 2_048}, marked=True, artefact="quality-x@1")
    asked = features_of(a_chat("word " * 4_000, coe={"max_cost_usd": 0.2}))
    around = Circumstances("dec_1", NOW, ANONYMOUS, experience=known, budgeted=True)
    return decide(asked, an_intent(), a_catalog(*models, baseline="o"), around)


def tables(title: str) -> list[set[str]]:
    """The first columns of the tables of a section of http.md, one by one."""
    text = re.split(r"\n## ", (PAGES / "http.md").read_text(encoding="utf-8").partition(f"\n## {title}\n")[2])[0]
    found = [re.findall(r"^\| `(\w+)` \|", part, re.MULTILINE) for part in re.split(r"\n\n", text)]
    return [set(names) for names in found if names]


def test_a_decision_is_told_field_by_field():
    """Every field of the record, of a candidate and of what would have to change; and no other."""
    decision = replace(decided_with_everything(), draw=Draw(1, 0.1, ("p/a", "p/b"), 1))
    full, stored = record(decision, full=True), record(decision)
    fields, candidate, alternative = tables("A decision")
    assert fields == set(full) | set(stored)
    told = [*full["candidates"], *full["rejected"], *stored["candidates"]]
    assert candidate == {name for one in told for name in one}
    alternatives = full["what_if"]["alternatives"]
    assert alternative == {name for one in alternatives for name in one}
    page = (PAGES / "http.md").read_text(encoding="utf-8")
    split = full["candidates"][0]["cost_split_usd"]
    changes = {name for one in alternatives for change in one["wins_if"] for name in change}
    inner = {*full["intent"], *stored["figures"], *full["versions"], *split, *changes, *full["what_if"], "lengths"}
    for name in inner | set(LEVERS):
        assert f"`{name}`" in page, name
