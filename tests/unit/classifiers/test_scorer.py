"""The classifier as it ships: what it says, when it abstains, what it never does."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from classifiers import ArtefactError, IntentClassifier
from classifiers.corpus import read_corpus
from classifiers.language import LANGUAGES
from classifiers.rows import read_rows
from classifiers.scorer import DOUBTS, FITS_NOTHING, FOLLOW_UP, NO_WORDS
from classifiers.taxonomy import INTENTS
from classifiers.terms import TERM_CHARS_MAX, TERMS_MAX

PROBE = Path(__file__).parents[2] / "fixtures" / "intent_probe.jsonl"
PROBE_FLOOR = 0.82
COVERED_FLOOR = 0.88


@pytest.fixture(scope="module")
def classifier():
    return IntentClassifier.load()


def _said(classifier, text):
    return classifier.predict([("user", text)])


@pytest.mark.parametrize(
    ("text", "intent"),
    [
        ("hi there!", "chitchat"),
        ("你好呀", "chitchat"),
        ("谢谢你", "chitchat"),
        ("What is the capital of France?", "factual_qa"),
        ("法国的首都是哪里？", "factual_qa"),
        ("Who wrote Pride and Prejudice?", "factual_qa"),
        ("为什么海水是咸的？", "factual_qa"),
        ("Prove that there are infinitely many primes congruent to 3 mod 4", "math"),
        ("证明根号2是无理数", "math"),
        ("Solve 3x^2 - 12 = 0", "math"),
        ("计算 (15+27)×3", "math"),
        ("Write a Python function that merges two sorted lists", "coding"),
        ("用Python写一个快速排序", "coding"),
        ("Fix this bug: TypeError: 'NoneType' object is not iterable", "coding"),
        ("这个SQL怎么优化：select * from orders where year(created)=2024", "coding"),
        ("把下面这段话翻译成英文：今天天气很好，我们去公园散步吧。", "translation"),
        ("Translate to Chinese: the meeting has moved to Thursday", "translation"),
        ("How do you say good morning in Portuguese?", "translation"),
        ("帮我写一封请假邮件", "writing"),
        ("Write a short poem about autumn leaves", "writing"),
        ("写一首关于月亮的诗", "writing"),
        ("Summarize the following article: ...", "summarization"),
        ("Summarize the following article: The council met and voted to repair the bridge.", "summarization"),
        ("用一句话概括下面的内容：会议决定推迟到下周举行，原因是场地装修。", "summarization"),
        ("Recommend a good book about Roman history", "advice_ideas"),
        ("周末去哪里玩比较好，给点建议", "advice_ideas"),
        ("Rewrite this sentence to be more formal: gimme the numbers asap", "rewriting"),
        ("帮我润色一下这段文字：我们的服务很好，欢迎来。", "rewriting"),
        ("Extract all email addresses from this text: write to ann@x.org or bo@y.net", "extraction"),
        ("判断这条评论的情感是正面还是负面：质量太差了", "extraction"),
        ("Pretend you are a pirate and talk to me", "roleplay"),
        ("你现在扮演一位唐朝诗人，和我对话", "roleplay"),
        ("If all cats are mammals and Tom is a cat, is Tom a mammal?", "logic"),
        ("甲比乙高，乙比丙高，谁最矮？", "logic"),
        ("Is it safe to take ibuprofen with blood pressure medication?", "domain_expert"),
        ("劳动合同没签，公司辞退我要赔多少钱", "domain_expert"),
        ("What's the weather in Paris tomorrow?", "tool_use"),
        ("提醒我明天早上八点开会", "tool_use"),
        ("Translate this report into English, summarize it and email it to my boss", "compound"),
        ("先总结这篇文章，再翻译成英文，最后写一封邮件发给客户", "compound"),
    ],
)
def test_plain_requests_are_understood(classifier, text, intent):
    """What anybody would expect, in both languages."""
    assert _said(classifier, text).label == intent


@pytest.mark.parametrize("text", ["", " ", "???", "...", "👍", "\n\n", "继续", "asdf", "…！", "continue"])
def test_no_evidence_is_an_abstention(classifier, text):
    """A guess without evidence would send a page of code to a cheap model."""
    assert _said(classifier, text).abstained


@pytest.mark.parametrize(
    ("text", "doubt"),
    [
        ("", NO_WORDS),
        ("???", NO_WORDS),
        ("continue", FOLLOW_UP),
        ("继续", FOLLOW_UP),
        ("IMG_20240817_113042.jpg", FITS_NOTHING),
    ],
)
def test_an_abstention_says_why(classifier, text, doubt):
    """The first reason that holds; a person who sees a posterior of 1.00 asks for it."""
    assert _said(classifier, text).doubt == doubt


def test_evidence_is_not_an_abstention(classifier):
    """Positive control for the test above: plain requests are covered."""
    assert not _said(classifier, "Translate this into French: good evening").abstained
    assert not _said(classifier, "用Python写一个快速排序").abstained


@pytest.mark.parametrize(
    "turns", [[], [("system", "You write conversation titles. Translate everything.")], [("assistant", "hello")]]
)
def test_without_a_user_turn_it_abstains(classifier, turns):
    """Harness text is not the person's wish."""
    said = classifier.predict(turns)
    assert said.abstained
    assert said.language == "und"
    assert sum(said.posterior.values()) == pytest.approx(1.0)


def test_system_text_changes_nothing(classifier):
    """Only user turns are read, wherever the others stand."""
    alone = _said(classifier, "What is the capital of France?")
    turns = [
        ("system", "Translate all code to Chinese poems"),
        ("user", "What is the capital of France?"),
        ("tool", "def f(): pass"),
    ]
    assert classifier.predict(turns) == alone


def test_earlier_turns_help_a_short_last_one(classifier):
    """`again please` after a coding request is about code; alone it says nothing."""
    before = [
        ("user", "Write a Python function that parses JSON and a unit test for it"),
        ("assistant", "def parse(): ..."),
    ]
    together = classifier.predict([*before, ("user", "again please")])
    assert together.posterior["coding"] > 2 * _said(classifier, "again please").posterior["coding"]


def test_the_last_turn_outweighs_each_earlier_one(classifier):
    """A change of subject is seen."""
    turns = [
        ("user", "Translate this into French: the cat sleeps"),
        ("assistant", "le chat dort"),
        ("user", "用Python写一个快速排序"),
    ]
    assert classifier.predict(turns).label == "coding"


@limits(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["user", "assistant", "system"]), st.text(max_size=200)), max_size=5))
def test_every_conversation_has_a_posterior(turns):
    """All intents in order, a distribution, the label its mode; the same twice."""
    classifier = _LOADED
    said = classifier.predict(turns)
    assert tuple(said.posterior) == INTENTS
    assert sum(said.posterior.values()) == pytest.approx(1.0)
    assert all(value >= 0 for value in said.posterior.values())
    assert said.confidence == max(said.posterior.values()) == said.posterior[said.label]
    assert said.language in LANGUAGES
    assert said.artefact == classifier.id
    assert classifier.predict(turns) == said
    assert said.doubt in (DOUBTS if said.abstained else ("",))


_LOADED = IntentClassifier.load()


def test_the_probe_is_mostly_right(classifier):
    """Own small probe, never trained on: a floor for accuracy, and a higher one where it doesn't abstain."""
    rows = read_rows(PROBE)
    said = [_said(classifier, row.prompt) for row in rows]
    right = [answer.label == row.intent for answer, row in zip(said, rows, strict=True)]
    covered = [hit for hit, answer in zip(right, said, strict=True) if not answer.abstained]
    assert np.mean(right) >= PROBE_FLOOR
    assert np.mean(covered) >= COVERED_FLOOR
    assert len(covered) / len(rows) >= 0.7
    for language in ("en", "zh"):
        assert (
            np.mean([hit for hit, row in zip(right, rows, strict=True) if row.language == language])
            >= PROBE_FLOOR - 0.04
        )


def test_the_probe_was_not_trained_on():
    """No probe prompt is in the corpus, and each pair of intent and language has several."""
    corpus = read_corpus(Path(sys.modules["classifiers"].__file__).parent / "corpus")
    trained = {" ".join(row.prompt.lower().split()) for row in corpus}
    rows = read_rows(PROBE)
    assert not [row.id for row in rows if " ".join(row.prompt.lower().split()) in trained]
    assert min(sum(r.intent == i and r.language == lang for r in rows) for i in INTENTS for lang in ("en", "zh")) >= 6


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("Translate this report into English, then summarize it and email it to my boss", ["translation", "tool_use"]),
        ("先总结这篇文章，再翻译成英文，最后发邮件给客户", ["summarization", "translation", "tool_use"]),
    ],
)
def test_a_compound_request_has_its_parts(classifier, text, steps):
    """In order, each with its own intent and its own words."""
    parts = classifier.parts([("user", text)])
    found = [part.intent for part in parts]
    assert [step for step in found if step in steps] == steps
    assert all(part.text in text and part.intent != "compound" for part in parts)


def test_a_single_wish_has_no_parts(classifier):
    """One step is no decomposition."""
    assert classifier.parts([("user", "把这段话翻译成英文")]) == ()
    assert classifier.parts([]) == ()


@pytest.mark.parametrize(
    "text", ["jkl;jkl;jkl;", "IMG_20240817_113042.jpg", "report_final_v3(2).docx", "嗯嗯 那个", "Re: Fwd: Re:"]
)
def test_a_scrap_is_no_wish(classifier, text):
    """What fits no intent is abstained on, whatever it looks most like."""
    assert _said(classifier, text).abstained


def test_hard_requests_are_harder(classifier):
    """Between 1 and 5, and in the order that anybody would give."""
    easy = _said(classifier, "hi there!").difficulty
    hard = _said(classifier, "Prove that every compact Hausdorff space is normal and give a counterexample without T2")
    assert 1.0 <= easy < hard.difficulty <= 5.0


@pytest.mark.parametrize(
    ("text", "flag"),
    [
        ("fix this:\n```python\nfor i in range(3) print(i)\n```", "code"),
        ("solve 3x + 5 = 20 for x", "math"),
        ("set an alarm for 6:30", "tools"),
        ("提醒我明天早上八点开会", "tools"),
        ("我的身份证号是11010519491231002X，帮我填表", "personal"),
        ("<system-reminder>be brief</system-reminder>what is the capital of France?", "harness"),
    ],
)
def test_flags_are_raised(classifier, text, flag):
    """Each by what calls for it, and by nothing in a plain question."""
    assert flag in _said(classifier, text).flags
    assert flag not in _said(classifier, "why is the sky blue?").flags


def test_wrapping_does_not_change_the_intent(classifier):
    """A reminder around a question is not a request for anything."""
    bare = _said(classifier, "What is the capital of France?")
    wrapped = _said(
        classifier, "<system-reminder>Translate nothing. Write code.</system-reminder>\nWhat is the capital of France?"
    )
    assert wrapped.posterior == bare.posterior


def test_an_explanation_names_what_speaks_for_the_label(classifier):
    """At most six readable terms, heaviest first, taken from the text or named flags."""
    terms = classifier.explain([("user", "Translate this letter into French, please")])
    assert 0 < len(terms) <= TERMS_MAX
    assert any("translate" in term for term, _ in terms)
    weights = [weight for _, weight in terms]
    assert weights == sorted(weights, reverse=True)
    assert all(weight > 0 and len(term) <= TERM_CHARS_MAX + 2 for term, weight in terms)
    assert any("翻译" in term for term, _ in classifier.explain([("user", "请翻译这封信")]))


def test_terms_come_with_the_prediction_when_asked(classifier):
    """Otherwise they cost nothing and quote nothing."""
    turns = [("user", "Translate this letter into French, please")]
    assert classifier.predict(turns).terms == ()
    assert classifier.predict(turns, terms=True).terms == classifier.explain(turns)


def test_an_explanation_for_another_label(classifier):
    """Why not math? An unknown label is refused, nobody's turn has no terms."""
    turns = [("user", "Translate 12 + 30 into French")]
    assert classifier.explain(turns, "math") != classifier.explain(turns, "translation")
    with pytest.raises(ValueError, match="unknown intent 'poetry'"):
        classifier.explain(turns, "poetry")
    assert classifier.explain([("assistant", "x")], "math") == ()


def test_loading_needs_no_scikit_learn():
    """A server imports NumPy and nothing heavier: no sklearn, scipy or yaml."""
    code = (
        "import sys, json; from classifiers import IntentClassifier;"
        "IntentClassifier.load().predict([('user', 'hello')], terms=True);"
        "print(json.dumps([m for m in ('sklearn', 'scipy', 'yaml', 'joblib', 'pickle5') if m in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": ":".join(sys.path)}, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == []


def test_a_directory_without_an_artefact_is_refused(tmp_path):
    """With the path in the message."""
    with pytest.raises(ArtefactError, match=r"manifest\.json"):
        IntentClassifier.load(tmp_path)
