"""The token rule and the words of simulated answers."""

import math
import random

import pytest

from service.simulator.answers import (
    cut_to_tokens,
    is_chinese,
    pieces_of,
    plausible_text,
    prompt_tokens,
    seed_of,
    text_tokens,
)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        ("a", 1),  # 0.25 rounds up
        ("abcd", 1),
        ("abcde", 2),  # 1.25
        ("好", 1),  # 0.7
        ("你好", 2),  # 1.4
        ("你好ab", 2),  # 1.4 + 0.5 = 1.9
        ("你好吗abc", 3),  # 2.1 + 0.75 = 2.85
        ("你" * 10, 7),  # exactly 7, nothing to round
        ("a" * 400, 100),
    ],
)
def test_token_rule(text, tokens):
    """ceil(ascii / 4 + others x 0.7), worked out by hand."""
    assert text_tokens(text) == tokens


def test_prompt_counts_messages_images_tools_and_calls():
    """Hand count: 4 + 4 for two messages, 1 + 2 for their texts, 85 for the image, 1 + 1 for the call, 1 for tools."""
    body = {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "abcd"}, {"type": "image_url", "image_url": {}}]},
            {
                "role": "assistant",
                "content": "abcde",
                "tool_calls": [{"function": {"name": "look", "arguments": "{}"}}],
            },
        ],
        "tools": [{}],
    }
    assert prompt_tokens(body) == 4 + 4 + 1 + 2 + 85 + 1 + 1 + 1


def test_cut_is_the_longest_prefix_that_fits():
    """Against a brute-force search, over random mixes of scripts."""
    randomness = random.Random(7)
    for _ in range(200):
        text = "".join(randomness.choice("ab 你好é") for _ in range(randomness.randrange(30)))
        for tokens in range(8):
            best = max((text[:end] for end in range(len(text) + 1) if text_tokens(text[:end]) <= tokens), key=len)
            assert cut_to_tokens(text, tokens) == best


def test_answer_says_it_is_simulated_in_the_prompts_language():
    """English for English, Chinese for Chinese (also with an English word in it), with the model and an echo."""
    english = plausible_text({"messages": [{"role": "user", "content": "Name three rivers"}]}, "m1")
    assert english.startswith("[simulated answer by m1] ")
    assert "Name three rivers" in english
    chinese = plausible_text({"messages": [{"role": "user", "content": "请解释一下 Python 的生成器"}]}, "m1")
    assert chinese.startswith("[m1 的模拟回答] ")
    assert "请解释一下" in chinese
    assert is_chinese(chinese)
    assert not is_chinese(english)


def test_answer_is_deterministic_and_varies_with_the_request():
    """Equal requests, equal words; other questions or choices get other seeds."""
    bodies = [{"model": "m", "messages": [{"role": "user", "content": f"question {number}"}]} for number in range(20)]
    assert [plausible_text(body, "m") for body in bodies] == [plausible_text(dict(body), "m") for body in bodies]
    assert len({seed_of(body) for body in bodies}) == 20
    assert seed_of(bodies[0], 0) != seed_of(bodies[0], 1)
    assert len({len(plausible_text(body, "m")) for body in bodies}) > 3


def test_echo_is_bounded_and_printable():
    """A long prompt with control characters must not blow up the answer or reach a terminal."""
    text = plausible_text({"messages": [{"role": "user", "content": "\x1b[31m" + "x" * 100_000}]}, "m")
    assert len(text) < 600
    assert text.isprintable()


@pytest.mark.parametrize("text", ["", "one", "one two  three", "你好世界再见", "mix 混合 text 文字", " lead", "trail "])
@pytest.mark.parametrize("count", [None, 1, 2, 3, 100])
def test_pieces_join_to_the_text(text, count):
    """Nothing lost, nothing empty, never more pieces than asked for."""
    pieces = pieces_of(text, count)
    assert "".join(pieces) == text
    assert all(pieces)
    assert count is None or len(pieces) <= count


def test_rule_in_integers_is_the_rule_in_reals():
    """The integer form against the formula of the docstring, over all small counts."""
    for ascii_count in range(40):
        for others in range(40):
            real = math.ceil(round(ascii_count / 4 + others * 0.7, 9))
            assert text_tokens("a" * ascii_count + "好" * others) == real
