"""Courtesies are taken off the ends of a wish, and nothing else is."""

import pytest

from classifiers import IntentClassifier
from classifiers.courtesy import SENTENCES_MAX, uncourteous, without_sentences
from classifiers.taxonomy import EVERYDAY

CLASSIFIER = IntentClassifier.load()


@pytest.mark.parametrize(
    ("text", "wish"),
    [
        (
            "Hello! I hope you're well. I have a question. Prove it by induction. Thanks a lot!",
            "Prove it by induction.",
        ),
        ("Thanks, that helped a lot! One more: write a lock-free queue", "write a lock-free queue"),
        ("Design the schema. No rush, and thank you so much for everything!", "Design the schema."),
        ("你好，打扰了，想请教一个问题。这份合同有效吗？非常感谢！辛苦了", "这份合同有效吗？"),
        ("谢谢你，刚才帮了大忙！再问一个：孩子吞了药怎么办", "孩子吞了药怎么办"),
        ("证明根号2是无理数，不急，谢谢啦", "证明根号2是无理数，"),
        ("想问一下：证明根号2是无理数。谢谢谢谢！", "证明根号2是无理数。"),
        ("Thanks so much for yesterday, you were a star. Quick one: solve it. Hope you have a great day!", "solve it."),
        ("Hello! Hope your week's going well. Is it deductible?", "Is it deductible?"),
    ],
)
def test_the_wish_is_left(text, wish):
    """Whatever stands around it, in both languages."""
    assert uncourteous(text) == wish


@pytest.mark.parametrize(
    "text",
    [
        "hello",
        "thanks a lot!",
        "你好，谢谢",
        "Write a thank-you note to my teacher",
        "What does 辛苦了 mean?",
        "翻译：谢谢你的帮助",
        "hello world in C prints nothing",
        "",
    ],
)
def test_small_talk_and_wishes_about_it_stay(text):
    """Nothing is taken off where nothing would be left, nor out of a wish."""
    assert uncourteous(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "thanks " + "the best " * 70 + "x",
        "hi " + "there " * 110 + "x",
        "谢谢" + "你您啦" * 220 + "x",
        "hi, " * 170,
        "非常" * 340,
    ],
)
def test_endless_courtesy_is_bounded(text):
    """A clause that is too long is not looked at, and only so many are taken off."""
    assert len(text) - len(uncourteous(text)) <= 12 * 82


def test_sentences_that_are_talk_are_taken_off_the_ends():
    """As many as `SENTENCES_MAX` at each end, none from the middle, and never all."""
    text = "Talk one. Talk two! Prove it by induction. Talk three? Then do it. Talk four."
    assert without_sentences(text, lambda one: "Talk" in one) == "Prove it by induction. Talk three? Then do it."
    assert without_sentences(text, lambda _: False) == text
    assert without_sentences("Talk one. Talk two.", lambda _: True) == "Talk two."
    asked = []
    without_sentences("Blah blah. " * 60, lambda one: not asked.append(one))
    assert len(asked) <= 2 * SENTENCES_MAX
    assert without_sentences("话一。话二！求证勾股定理。话三。", lambda one: "话" in one) == "求证勾股定理。"


@pytest.mark.parametrize(
    ("text", "intents"),
    [
        (
            "My grandson gave me this. If all bloops are razzies and some are lazzies, must some bloops be lazzies? Ta!",
            ("logic",),
        ),
        (
            "It rained all day here and the cat slept on my feet. Anyway: solve x^2 - 5x + 6 = 0. You are a star!",
            ("math",),
        ),
        ("昨天跟你聊天真开心，太棒了！我的Redis连接池总是耗尽，怎么排查？周末愉快哦", ("coding",)),
        ("I had an awful day. My boss yelled at me. I just want someone to talk to.", ("chitchat",)),
        ("今天好累。老板又骂我了。陪我聊聊吧。", ("chitchat",)),
    ],
)
def test_a_hard_wish_amid_small_talk_is_found(text, intents):
    """And small talk of several sentences stays what it is."""
    found = CLASSIFIER.predict([("user", text)])
    assert found.label in intents
    assert not found.abstained


WISHES = {
    "en": [
        "Prove that the square root of 2 is irrational",
        "implement a lock-free queue in C++",
        "What dose of amoxicillin for a 14 kg child with otitis media?",
        "My landlord kept my deposit, can I sue in small claims court in Ohio?",
        "Is amortisation of goodwill deductible under section 197?",
        "debug this: TypeError: 'NoneType' object is not subscriptable",
        "integrate x*e^x from 0 to 1",
        "write a SQL query for the top 3 customers per month",
    ],
    "zh": [
        "证明根号2是无理数",
        "用C++实现一个无锁队列",
        "房东不退押金，可以去法院起诉吗，需要什么证据",
        "商誉摊销能不能税前扣除",
        "三相7.5kW电机400V断路器怎么选",
        "求x*e^x从0到1的定积分",
        "劳动合同没签，双倍工资怎么主张",
        "写一条SQL查每个月消费最高的三个客户",
    ],
}
AROUND = {
    "en": [
        ("Hello! I hope you're well. I have a question. ", " Thanks a lot for your help!"),
        ("Thanks, that helped a lot! One more: ", ""),
    ],
    "zh": [
        ("你好！", ""),
        ("你好，打扰了，想请教一个问题。", "非常感谢！辛苦了"),
        ("谢谢你，刚才帮了大忙！再问一个：", ""),
    ],
}


@pytest.mark.parametrize(("language", "before", "after"), [(one, *pair) for one in AROUND for pair in AROUND[one]])
def test_politeness_makes_nothing_cheap(language, before, after):
    """A hard question between a greeting and thanks is still one: at most one of eight comes out as an everyday wish."""
    read = [CLASSIFIER.predict([("user", before + wish + after)]) for wish in WISHES[language]]
    assert sum(one.label in EVERYDAY and not one.abstained for one in read) <= 1


@pytest.mark.parametrize(
    "text", ["你好呀，今天过得怎么样？", "Hi there! How was your weekend?", "早上好！今天心情不错，来聊聊天吧"]
)
def test_small_talk_after_a_greeting_stays_small_talk(text):
    """What is left of it may look like a question for advice."""
    assert CLASSIFIER.predict([("user", text)]).label == "chitchat"


def test_without_the_second_reading_it_would(monkeypatch):
    """Positive control."""
    monkeypatch.setattr("classifiers.scorer.uncourteous", lambda text: text)
    monkeypatch.setattr("classifiers.scorer.without_sentences", lambda text, _: text)
    before, after = AROUND["zh"][1]
    read = [CLASSIFIER.predict([("user", before + wish + after)]) for wish in WISHES["zh"]]
    assert sum(one.label in EVERYDAY and not one.abstained for one in read) > 2
