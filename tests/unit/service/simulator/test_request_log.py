"""The truth log."""

from service.domain.money import Usage
from service.simulator import request_log
from service.simulator.request_log import Outcome, RequestLog


def seen(log, body=b"x"):
    """One more request."""
    return log.open(vendor="v", method="POST", path="/v1", headers={}, body=body, connection=1)


def test_entry_lives_from_open_to_end():
    """Open at once, final after `end`, with a clock that does not run backwards."""
    log = RequestLog(keep_bodies=True)
    number = seen(log).number
    assert log.entries()[0].outcome is Outcome.OPEN
    log.update(number, billed=Usage(input=3), status=200)
    log.end(number, Outcome.ANSWERED)
    (entry,) = log.entries()
    assert (entry.outcome, entry.status, entry.billed) == (Outcome.ANSWERED, 200, Usage(input=3))
    assert entry.ended_monotonic >= entry.at_monotonic


def test_entries_are_a_copy():
    """A reader holds what it read."""
    log = RequestLog(keep_bodies=True)
    before = log.entries()
    seen(log)
    assert before == []
    assert len(log.entries()) == 1


def test_oldest_go_first(monkeypatch):
    """By count and by bytes; updates of a dropped entry are harmless, numbers go on."""
    monkeypatch.setattr(request_log, "ENTRIES_MAX", 3)
    log = RequestLog(keep_bodies=True)
    numbers = [seen(log).number for _ in range(5)]
    assert [entry.number for entry in log.entries()] == numbers[2:]
    log.end(numbers[0], Outcome.ANSWERED)
    assert len(log.entries()) == 3
    assert log.dropped == 2
    monkeypatch.setattr(request_log, "BYTES_MAX", 10)
    seen(log, b"123456789")
    assert [len(entry.body) for entry in log.entries()] == [1, 9]
    log.clear()
    assert log.entries() == []
    assert seen(log).number == 7


def test_what_has_ended_can_be_taken_away():
    """Once, oldest first; who is being answered stays, and its end is still noted."""
    log = RequestLog(keep_bodies=True)
    first, second, third = (seen(log).number for _ in range(3))
    log.end(third, Outcome.FAILED)
    log.end(first, Outcome.ANSWERED)
    assert [(entry.number, entry.outcome) for entry in log.take_ended()] == [
        (first, Outcome.ANSWERED),
        (third, Outcome.FAILED),
    ]
    assert log.take_ended() == []
    log.end(second, Outcome.CLIENT_LEFT)
    assert [entry.number for entry in log.take_ended()] == [second]
    assert log.dropped == 0


def test_bodies_can_stay_out():
    """For real prompts and long runs; and never in repr."""
    log = RequestLog(keep_bodies=False)
    assert seen(log, b"secret").body == b""
    assert "secret" not in repr(seen(RequestLog(keep_bodies=True), b"secret"))
