"""Courtesies are taken off the ends of a wish, and nothing else is."""

import pytest

from classifiers import IntentClassifier
from classifiers.courtesy import uncourteous
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
    before, after = AROUND["zh"][1]
    read = [CLASSIFIER.predict([("user", before + wish + after)]) for wish in WISHES["zh"]]
    assert sum(one.label in EVERYDAY and not one.abstained for one in read) > 2
