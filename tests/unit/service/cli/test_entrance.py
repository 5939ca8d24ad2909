"""The console script's own entrance: the last net around every command."""

from __future__ import annotations

import sys

import click
import pytest

from service.cli import cli, main
from service.cli.exits import EX_CANTCREAT, EX_USAGE
from service.cli.settings import fail


@pytest.fixture
def ends(monkeypatch, capsys):
    """Run `coe probe`, a command that raises what it is given; its exit code and what was said on stderr."""

    def run(problem):
        @click.command()
        def probe():
            raise problem

        monkeypatch.setitem(cli.commands, "probe", probe)
        monkeypatch.setattr(sys, "argv", ["coe", "probe"])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, capsys.readouterr().err

    return run


@pytest.mark.parametrize(
    ("problem", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "coe: interrupted\n"),
        (NotADirectoryError(20, "Not a directory", "/x"), EX_CANTCREAT, "coe: /x can't be read or written: Not a dir"),
        (UnicodeEncodeError("utf-8", "\udcff", 0, 1, "surrogates"), EX_USAGE, "coe: an argument or a file name"),
        (click.UsageError("no such thing"), EX_USAGE, "Error: no such thing"),
    ],
    ids=["ctrl-c", "system", "text", "usage"],
)
def test_what_a_command_let_through_is_one_line(ends, problem, code, said):
    """Whatever the command itself did not expect; no traceback."""
    found, told = ends(problem)
    assert found == code
    assert said in told
    assert "Traceback" not in told


def test_a_defect_keeps_its_traceback(ends):
    """It is ours to mend, so it must be seen."""
    with pytest.raises(ZeroDivisionError):
        ends(ZeroDivisionError())


def test_a_code_of_a_command_is_the_code_of_the_program(monkeypatch):
    """`fail` ends the process with the number it was given."""

    @click.command()
    def probe():
        fail("no", 77)

    monkeypatch.setitem(cli.commands, "probe", probe)
    monkeypatch.setattr(sys, "argv", ["coe", "probe"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 77
