"""Estimates of answers that were cut, against what their vendor would have counted."""

from __future__ import annotations

import random
import re

import pytest

from service.domain.chat import count_characters, estimate_tokens
from service.domain.money import Usage, UsageSource
from service.upstream.yardstick import DEPLOYMENTS_MAX, FACTOR_MAX, OURS, Yardstick, Yardsticks

ENGLISH = """the router reads a request and picks the cheapest capable model from a registry with prices then writes down
every token and every cent so that a team can see what it pays for whom and why while nothing of the prompt is kept"""
CHINESE = "路由器读取请求并从带有价格的注册表中选择最便宜且能胜任的模型然后记下每一个词元和每一分钱让团队看到为谁付了多少以及原因"


def counted(text):
    """Tokens as a made-up vendor counts them: pieces of words, punctuation, Chinese in pieces of one or two."""
    tokens = 0
    for piece in re.findall(r"[一-鿿]+|\w+|[^\w\s]", text):
        tokens += -(-len(piece) * 4 // 5) if "一" <= piece[0] <= "鿿" else -(-len(piece) // 4)
    return tokens


def some_text(chance, *, chinese):
    """An answer of some words."""
    if chinese:
        return "".join(chance.choices(CHINESE, k=chance.randint(40, 400))) + "。"
    return " ".join(chance.choices(ENGLISH.split(), k=chance.randint(30, 300))) + "."


def estimated(text):
    """(tokens by characters, whether it is Chinese)."""
    characters, cjk = count_characters(text)
    return estimate_tokens(characters, cjk), 2 * cjk > characters


def learned(chance, answers):
    """A yardstick after some whole answers, a third of them Chinese."""
    found = Yardstick()
    for number in range(answers):
        text = some_text(chance, chinese=number % 3 == 0)
        tokens, cjk = estimated(text)
        found.learn(Usage(input=130, output=counted(text)), 100, tokens, cjk=cjk)
    return found


def error_of(yardstick, chance, *, chinese, cuts=500):
    """By how much the sum of the estimates of answers cut anywhere is off, as a share."""
    true = guessed = 0
    for _ in range(cuts):
        text = some_text(chance, chinese=chinese)
        text = text[: chance.randint(1, len(text))]
        tokens, cjk = estimated(text)
        true += counted(text)
        guessed += yardstick.output_tokens(tokens, cjk=cjk)
    return abs(guessed - true) / true


@pytest.mark.parametrize("chinese", [False, True], ids=["en", "zh"])
def test_estimates_of_cut_answers_are_within_three_percent_together(chinese):
    """I5. Our own word alone, the control, is far off for the same vendor."""
    chance = random.Random(20261122)
    yardstick = learned(chance, 60)
    assert error_of(yardstick, chance, chinese=chinese) < 0.03
    assert error_of(OURS, chance, chinese=chinese) > 0.05


def test_a_prompt_is_measured_as_well():
    """The vendor's template and its own prompt count."""
    yardstick = learned(random.Random(1), 60)
    assert yardstick.input_tokens(1_000) == pytest.approx(1_290, rel=0.02)


def test_a_vendor_nobody_knows_is_taken_at_our_word():
    """And a few short answers move little."""
    assert (OURS.output_tokens(1_234, cjk=False), OURS.input_tokens(99)) == (1_234, 99)
    short = Yardstick()
    short.learn(Usage(input=3, output=4), 2, 2, cjk=False)
    assert short.output_tokens(1_000, cjk=False) == pytest.approx(1_000, rel=0.02)
    assert short.output_tokens(1_000, cjk=True) == 1_000


def test_a_vendor_that_lies_moves_an_estimate_so_far_and_no_further():
    """In both directions."""
    for said, bound in ((10**9, FACTOR_MAX), (0, 1 / FACTOR_MAX)):
        liar = Yardstick()
        for _ in range(100):
            liar.learn(Usage(input=said, output=said), 100, 100, cjk=False)
        assert liar.output_tokens(1_000, cjk=False) == round(1_000 * bound)
        assert liar.input_tokens(1_000) == round(1_000 * bound)


@pytest.mark.parametrize(
    "usage",
    [
        Usage(input=900, output=900, source=UsageSource.ESTIMATED),
        Usage(input=900, output=900, flags=("output_exceeds_cap",)),
    ],
    ids=["ours", "doubted"],
)
def test_nothing_is_learned_from_what_is_not_the_vendors_own_number(usage):
    """Our estimates would confirm themselves."""
    yardstick = Yardstick()
    for _ in range(50):
        yardstick.learn(usage, 100, 100, cjk=False)
    assert (yardstick.output_tokens(100, cjk=False), yardstick.input_tokens(100)) == (100, 100)


def test_what_nobody_could_see_is_not_measured():
    """Hidden thinking beside the text says nothing about the text; images nothing about the prompt's."""
    yardstick = Yardstick()
    for _ in range(50):
        yardstick.learn(Usage(input=100, output=900, reasoning=5), 100, 100, cjk=False)
        yardstick.learn(Usage(input=900, output=100, image=3), 100, 100, cjk=False)
        yardstick.learn(Usage(input=100, output=0), 100, 0, cjk=False)
        yardstick.learn(Usage(input=900, output=100), 0, 100, cjk=False)
    assert (yardstick.output_tokens(100, cjk=False), yardstick.input_tokens(100)) == (100, 100)


def test_a_new_tokenizer_is_noticed():
    """Old answers are forgotten by and by."""
    yardstick = Yardstick()
    for said in (100, 150):
        for _ in range(1_000):
            yardstick.learn(Usage(input=said, output=said), 100, 100, cjk=False)
    assert yardstick.output_tokens(1_000, cjk=False) == pytest.approx(1_500, rel=0.02)


def test_each_deployment_has_its_own_and_there_are_not_too_many():
    """The oldest goes."""
    known = Yardsticks()
    first = known.of("a")
    assert known.of("a") is first
    for number in range(DEPLOYMENTS_MAX):
        known.of(str(number))
    assert known.of("a") is not first
    assert len(known._known) == DEPLOYMENTS_MAX
