"""Where a stream is to end: by the vendor's own measure of text, or by its own count."""

from __future__ import annotations

from service.domain.chat import estimate_tokens
from service.domain.money import Usage
from service.upstream.stop import Stop
from service.upstream.yardstick import Yardstick


def test_what_is_paid_for_may_be_said_to_the_last_token():
    """And not one more."""
    stop = Stop(estimate_tokens(400, 0), Yardstick())
    assert not stop.is_passed(400, 0, 0)
    assert stop.is_passed(404, 0, 0)
    assert not stop.reached, "whoever asks says so"


def test_the_vendors_own_count_counts():
    """Where it tells one on the way."""
    stop = Stop(100, Yardstick())
    assert not stop.is_passed(4, 0, 100)
    assert stop.is_passed(4, 0, 101)


def test_it_counts_as_the_vendor_does():
    """Who counts more for the same text is stopped earlier; Chinese by its own measure."""
    dear = Yardstick()
    for _ in range(50):
        dear.learn(Usage(output=2_000), 0, 1_000, cjk=False)
    assert Stop(150, dear).is_passed(400, 0, 0)
    assert not Stop(150, Yardstick()).is_passed(400, 0, 0)
    many = next(count for count in range(1, 1_000) if estimate_tokens(count, count) > 150)
    assert Stop(150, Yardstick()).is_passed(many, many, 0)
    assert not Stop(150, Yardstick()).is_passed(many, 0, 0)
