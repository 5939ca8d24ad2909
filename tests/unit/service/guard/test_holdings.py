"""What a process has in each counter, and what of it is still to be told: absolute, and never forgotten on the way."""

from __future__ import annotations

import random

import pytest

from service.guard.counting import MONEY, RATE, SLOTS, Counter, Line, Share
from service.guard.holdings import SHARES_PER_MESSAGE, Holdings

OVER_MS = 1_000
POT = Counter(MONEY, "m:k:one:2026-11-22", OVER_MS)
ASKED = Counter(RATE, "r:k:one:t")
SLOT = Counter(SLOTS, "c:k:one")
MONEY_LINE, RATE_LINE, SLOT_LINE = Line(POT, 70, 100), Line(ASKED, 50, 60), Line(SLOT, 1, 4)


@pytest.fixture
def holdings():
    """Of a member that has nothing."""
    return Holdings()


def told_all(holdings):
    """Tell everything at once; what was told."""
    news = holdings.news()
    holdings.told(news)
    return news


def test_a_grant_is_held_and_is_no_news(holdings):
    """The store knows of it: it granted it. Of a rate nothing is held."""
    for line in (MONEY_LINE, RATE_LINE, SLOT_LINE):
        holdings.granted(line)
    assert holdings.pending == 0
    assert holdings.share(POT) == Share(POT, 0, 70, known=True)
    assert holdings.share(SLOT) == Share(SLOT, 0, 1, known=True)
    assert holdings.share(ASKED) == Share(ASKED, 0, 0)


def test_what_the_store_was_told_of_is_known_of_what_is_asked(holdings):
    """Money alone: slots and rates end by themselves."""
    other = Line(Counter(MONEY, "m:k:other:2026-11-22", OVER_MS), 1, 100)
    asks = [[[MONEY_LINE, RATE_LINE, SLOT_LINE], [other]]]
    assert holdings.known(asks) == set()
    for line in (MONEY_LINE, RATE_LINE, SLOT_LINE):
        holdings.granted(line)
    assert holdings.known(asks) == {POT.name}
    holdings.settled(other.counter, 1)
    assert holdings.known(asks) == {POT.name}
    told_all(holdings)
    assert holdings.known(asks) == {POT.name, other.counter.name}
    holdings.doubt_all()
    assert holdings.known(asks) == set()


def test_a_rate_that_was_granted_leaves_nothing_behind(holdings):
    """Keys come and go: what is kept must not grow with them."""
    for number in range(50):
        holdings.granted(Line(Counter(RATE, f"r:k:{number}:q"), 1, 60))
    holdings.correct(RATE_LINE, 3)
    told_all(holdings)
    assert holdings._own == {}


def test_what_is_told_is_absolute(holdings):
    """Sums, never differences: so it may be told twice, or be lost."""
    holdings.granted(MONEY_LINE)
    holdings.granted(MONEY_LINE)
    holdings.give_back(MONEY_LINE)
    holdings.settled(POT, 30)
    holdings.settled(POT, 5)
    assert holdings.news() == [Share(POT, 35, 70, known=True)]
    assert holdings.news() == [Share(POT, 35, 70, known=True)], "asking is not telling"
    assert told_all(holdings) == [Share(POT, 35, 70, known=True)]
    assert holdings.pending == 0


def test_what_nobody_told_of_yet_is_not_known(holdings):
    """A store that lacks it has lost nothing."""
    holdings.settled(POT, 1)
    assert [share.known for share in told_all(holdings)] == [False]
    holdings.settled(POT, 1)
    assert [share.known for share in told_all(holdings)] == [True]


def test_nothing_spent_is_no_news(holdings):
    """Most attempts under no budget cost something; those that cost nothing say nothing."""
    holdings.settled(POT, 0)
    holdings.correct(RATE_LINE, 0)
    assert (holdings.pending, holdings._own) == (0, {})


def test_what_changes_while_it_is_told_stays_to_be_told(holdings):
    """The store has the older figure."""
    holdings.settled(POT, 10)
    holdings.correct(RATE_LINE, -20)
    holdings.granted(SLOT_LINE)
    holdings.give_back(SLOT_LINE)
    on_the_way = holdings.news()
    holdings.settled(POT, 1)
    holdings.correct(RATE_LINE, 5)
    holdings.granted(SLOT_LINE)
    holdings.told(on_the_way)
    assert holdings.news() == [
        Share(POT, 11, 0, known=True),
        Share(ASKED, 0, 5, limit=60),
        Share(SLOT, 0, 1, known=True),
    ]


def test_a_correction_is_told_once(holdings):
    """A bucket has no shares: telling it twice would count it twice."""
    holdings.correct(RATE_LINE, -20)
    holdings.correct(RATE_LINE, 5)
    assert told_all(holdings) == [Share(ASKED, 0, -15, limit=60)]
    assert told_all(holdings) == []
    holdings.correct(RATE_LINE, 7)
    assert told_all(holdings) == [Share(ASKED, 0, 7, limit=60)]


def test_corrections_that_cancel_while_they_are_told_still_end_at_their_sum(holdings):
    """The store has taken -20; what is left to say is +20."""
    holdings.correct(RATE_LINE, -20)
    on_the_way = holdings.news()
    holdings.correct(RATE_LINE, 20)
    assert holdings.news()[0].held == 0
    holdings.told(on_the_way)
    assert [share.held for share in holdings.news()] == [20]


def test_a_rate_that_is_given_back_was_used(holdings):
    """Whoever left before the answer has asked all the same."""
    holdings.give_back(RATE_LINE)
    assert (holdings.pending, holdings._own) == (0, {})


def test_a_message_takes_so_many_and_the_oldest_first(holdings):
    """Nobody's news waits for ever behind somebody else's."""
    counters = [Counter(MONEY, f"m:k:{number}:2026-11") for number in range(SHARES_PER_MESSAGE + 10)]
    for counter in counters:
        holdings.settled(counter, 1)
    holdings.settled(counters[0], 1)
    first = told_all(holdings)
    assert [share.counter for share in first] == counters[:SHARES_PER_MESSAGE]
    holdings.settled(counters[0], 1)
    assert [share.counter for share in told_all(holdings)] == [*counters[SHARES_PER_MESSAGE:], counters[0]]
    assert holdings.pending == 0


def test_who_changes_all_the_time_waits_behind_the_others(holdings):
    """Else a few busy counters would be all that is ever told."""
    busy = [Counter(MONEY, f"m:k:{number}:2026-11") for number in range(3)]
    quiet = Counter(MONEY, "m:k:quiet:2026-11")
    for counter in (*busy, quiet):
        holdings.settled(counter, 1)
    on_the_way = holdings.news(2)
    for counter in busy:
        holdings.settled(counter, 1)
    holdings.told(on_the_way)
    assert [share.counter for share in holdings.news(2)] == [busy[2], quiet]


def test_doubt_is_told_also_of_a_counter_that_we_have_nothing_in(holdings):
    """A grant whose reply was lost: the store holds it, we do not."""
    holdings.doubt(POT)
    holdings.doubt(SLOT)
    holdings.doubt(ASKED)
    assert told_all(holdings) == [Share(POT, 0, 0), Share(SLOT, 0, 0)]


def test_who_doubts_everything_tells_everything_but_corrections(holdings):
    """Also what it has nothing in: the lost grant may be why the store was lost."""
    holdings.granted(MONEY_LINE)
    holdings.granted(SLOT_LINE)
    holdings.give_back(SLOT_LINE)
    told_all(holdings)
    holdings.correct(RATE_LINE, 3)
    lost = Counter(MONEY, "m:k:lost:2026-11")
    holdings.doubt(lost)
    holdings.doubt_all()
    assert holdings.news() == [Share(POT, 0, 70), Share(SLOT, 0, 0), Share(lost, 0, 0)]
    assert holdings.share(ASKED) == Share(ASKED, 0, 0), "a minute later it matters no more"


def test_windows_that_are_over_are_forgotten_once_nothing_is_held(holdings):
    """And slots that nobody holds; what is still to be told of those is told first."""
    holdings.granted(MONEY_LINE)
    holdings.settled(POT, 1)
    holdings.granted(SLOT_LINE)
    holdings.forget(OVER_MS)
    assert holdings.share(POT).held == 70
    holdings.give_back(MONEY_LINE)
    holdings.give_back(SLOT_LINE)
    holdings.forget(OVER_MS - 1)
    assert (holdings.share(POT).settled, holdings.pending) == (1, 2)
    holdings.forget(OVER_MS)
    assert holdings.share(POT) == Share(POT, 0, 0)
    assert holdings.news() == [Share(SLOT, 0, 0, known=True)]
    told_all(holdings)
    holdings.forget(OVER_MS)
    assert holdings._own == {}


def test_what_was_forgotten_on_the_way_may_still_be_told_of(holdings):
    """A day turns while a message is under way: the reply must find its way all the same."""
    holdings.settled(POT, 1)
    on_the_way = holdings.news()
    holdings.forget(OVER_MS)
    holdings.told(on_the_way)
    assert (holdings.pending, holdings._own) == (0, {})


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_the_store_ends_with_what_we_have(seed):
    """Messages that arrive, that are lost, and that arrive unheard of, in any order with all else."""
    draw, holdings = random.Random(seed), Holdings()
    pots = [Counter(MONEY, f"m:k:{number}:2026-11", 10**15) for number in range(6)]
    slots = [Counter(SLOTS, f"c:k:{number}") for number in range(3)]
    store: dict[str, tuple[int, int]] = {}
    held: list[Line] = []
    on_the_way: list[Share] | None = None
    for _ in range(500):
        what = draw.randrange(7)
        if what == 0:
            line = Line(draw.choice(pots + slots), draw.randrange(1, 9), 10**9)
            settled, before = store.get(line.counter.name, (0, 0))
            if on_the_way is None:  # a grant comes with a reply, so there is no other message then
                holdings.granted(line)
                held.append(line)
                store[line.counter.name] = (settled, before + line.amount)
        elif what == 1 and held:
            holdings.give_back(held.pop(draw.randrange(len(held))))
        elif what == 2:
            holdings.settled(draw.choice(pots), draw.randrange(3))
        elif what == 3 and on_the_way is None:
            on_the_way = holdings.news(draw.randrange(1, 5))
        elif what >= 4 and on_the_way is not None:
            arrives, heard = draw.random() < 0.8, draw.random() < 0.8
            if arrives:
                store.update({share.counter.name: (share.settled, share.held) for share in on_the_way})
            if arrives and heard:
                holdings.told(on_the_way)
            on_the_way = None
    while holdings.pending:
        news = holdings.news(3)
        store.update({share.counter.name: (share.settled, share.held) for share in news})
        holdings.told(news)
    for counter in (*pots, *slots):
        share = holdings.share(counter)
        assert store.get(counter.name, (0, 0)) == (share.settled, share.held)
