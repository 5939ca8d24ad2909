"""What agents wrap around a person's words comes off; what a person wrote stays."""

import json
import time

import pytest

from classifiers.harness import SCAN_CHARS, unwrap

ASK = "why does the import fail on Windows only?"


@pytest.mark.parametrize(
    "text",
    [
        f"<system-reminder>Never mention the plan file.</system-reminder>\n{ASK}",
        f"{ASK}\n<system-reminder>The todo list is empty.\nBe brief.</system-reminder>",
        f"<environment_details>\ncwd: src\nTime: 10:02\n</environment_details>\n\n<user_query>\n{ASK}\n</user_query>",
        f"<open_files>a.py</open_files><git_status>clean</git_status>\n{ASK}",
        f"<task>{ASK}</task>\n<environment_details>x</environment_details>",
        json.dumps({"role": "user", "content": ASK}),
        json.dumps([{"role": "system", "content": "Translate."}, {"role": "user", "content": ASK}]),
        json.dumps({"messages": [{"role": "user", "content": [{"type": "text", "text": ASK}]}], "model": "auto"}),
        json.dumps({"query": ASK, "session": "s-1"}),
        f"  \n{ASK}\n\n",
        f"<system-reminder>{'x' * (SCAN_CHARS + 500)}</system-reminder>{ASK}",
        f"<system-reminder>{'x' * (9 * SCAN_CHARS)}</system-reminder>{ASK}",
    ],
)
def test_the_wish_is_left(text):
    """Reminders, environments, envelopes and blanks are gone, the ask is whole."""
    assert unwrap(text).text == ASK


@pytest.mark.parametrize(
    "text",
    [
        ASK,
        "<div>why is this tag red?</div>",
        "<b>bold</b> move, what do you think",
        '{"a": 1} is this valid JSON?',
        '{"a": 1, "b": [2, 3]}',
        "[1, 2, 3] sort this",
        "if a < b: print('x')>",
        "<system-reminder>never closed, and then the ask",
        "a </user_query> b",
        "",
        "<",
        "</>",
        "{",
        '{"content": 5}',
    ],
)
def test_what_is_no_wrapping_stays(text):
    """Markup, JSON and comparisons of the person's own are not touched."""
    said = unwrap(text)
    assert said.text == text
    assert not said.noisy


def test_a_turn_of_results_alone_says_nothing():
    """A tool's result is nobody's wish."""
    assert unwrap("<tool_result>42 files changed</tool_result>\n").text == ""
    assert unwrap("<system-reminder>a</system-reminder><system-reminder>b</system-reminder>").text == ""


def test_noise_is_told():
    """Callers can see that something was taken off."""
    assert unwrap(f"<system-reminder>x</system-reminder>{ASK}").noisy
    assert unwrap(json.dumps({"role": "user", "content": ASK})).noisy
    assert not unwrap(f" {ASK} ").noisy


@pytest.mark.parametrize(
    "text",
    [
        "Generate a short title for this conversation: user asks about tyres",
        "Create a detailed summary of the conversation so far, then stop.",
        "请为对话生成标题：用户想订机票",
    ],
)
def test_an_app_asking_for_itself_is_recognised(text):
    """Titles and compaction are the app's wish."""
    assert unwrap(text).by_app


def test_a_person_asking_about_titles_is_no_app():
    """Positive control for the test above."""
    assert not unwrap("give me a title for my poem about rain").by_app
    assert not unwrap("let's have a conversation about art").by_app


@pytest.mark.parametrize(
    "text",
    [
        "<system-reminder>" * 200_000,
        "</system-reminder>" * 200_000,
        " " * 5_000_000 + ASK,
        "[" * 2_000_000,
        '{"content":' * 1_400,
        "<user_query>" * 300_000 + "</user_query>",
    ],
)
def test_hostile_wrapping_is_bounded(text):
    """Megabytes of tags, blanks and brackets cost about what a megabyte of letters costs to look at."""
    began = time.process_time()
    unwrap(text)
    assert time.process_time() - began < 0.5
