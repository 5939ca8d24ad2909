"""Where one wish ends and the next begins."""

import pytest

from classifiers.compound import PIECES_MAX, pieces


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("Summarize the notes, then translate them into German and email them to Bo", 3),
        ("先总结这篇文章，再翻译成英文，最后写一封邮件发给客户", 3),
        ("wish: read the letter -> translate it -> mail it to Bo", 3),
        ("订酒店并通知小王再写份行程", 3),
        ("translate the letter; write a reply; save both", 3),
        ("Fix the grammar. After that, give me three title ideas.", 2),
        ("what is the capital of France", 1),
        ("把这段话润色一下", 1),
    ],
)
def test_wishes_come_apart(text, count):
    """At the words and marks that join wishes, and nowhere in a single one."""
    assert len(pieces(text)) == count


def test_links_are_left_out():
    """A step is told without the word that puts it in order."""
    assert pieces("First read it. Then plot it, and finally mail the plot") == ("read it", "plot it", "mail the plot")
    assert pieces("先读一遍，然后画成图，最后发给我") == ("读一遍", "画成图", "发给我")


@pytest.mark.parametrize(
    "text",
    [
        "先进制造业有哪些政策",
        "再生能源的前景如何",
        "把两个表合并成一个",
        "怎么解决并发问题",
        "先生您好请问地址在哪",
        "First Amendment limits on speech",
        "Next.js routing explained",
        "solve x^2-5x+6=0",
        "3x+2=8 solve for x",
        "set an alarm at 7:30",
    ],
)
def test_words_and_figures_stay_whole(text):
    """What only begins like a link is none, and figures are part of a wish."""
    assert pieces(text) == (text,)


def test_what_follows_a_long_list_is_not_lost():
    """The last wishes stay, whatever stands before them."""
    text = "summarise: " + ", ".join(f"finding number {n}" for n in range(40)) + "; then translate it into Polish"
    assert pieces(text)[-1] == "translate it into Polish"
    assert pieces(text)[0] == "summarise"


def test_pieces_are_verbatim_and_in_order():
    """Each piece stands in the text behind the one before."""
    text = "Read report.pdf, extract the totals, then plot them; finally send the chart to Mia."
    at = 0
    for piece in pieces(text):
        at = text.index(piece, at) + len(piece)


def test_many_pieces_are_cut():
    """A list of a hundred wishes is no hundred predictions."""
    assert len(pieces("; ".join(f"translate page number {n}" for n in range(100)))) == PIECES_MAX


def test_scraps_are_left_out():
    """Too short to be a wish."""
    assert pieces("ok. so. translate the menu. thx") == ("translate the menu",)
    assert pieces("") == ()
