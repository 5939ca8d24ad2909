"""Progress: a bar on a terminal, a few plain lines elsewhere."""

from __future__ import annotations

from service.cli.progress import bar


def test_a_terminal_gets_a_bar(capsys):
    """One line that is drawn over, ended when done."""
    progress = bar(stream_is_terminal=True)
    for done in (0, 1, 1, 2, 3, 4, 4):
        progress(done, 4, "reading")
    err = capsys.readouterr().err
    assert err.count("\r") == 5, "drawn again only when there is something new to see"
    assert err.endswith("100 %\n")
    assert err.count("\n") == 1


def test_a_log_gets_a_line_now_and_then(capsys):
    """At most one line for each quarter, whatever the number of steps."""
    progress = bar(stream_is_terminal=False)
    for done in range(1001):
        progress(done, 1000, "reading")
    lines = capsys.readouterr().err.splitlines()
    assert 4 <= len(lines) <= 5
    assert lines[-1] == "reading: 100 %"
