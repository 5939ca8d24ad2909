"""Warm prefixes: which beginnings are the same, what vendors report, how long it lasts, what it is worth."""

from __future__ import annotations

from dataclasses import replace
from unittest import mock

import pytest
from scenery import NOW, a_chat, a_model, prices

from service.domain.catalog import Deployment, Provider
from service.domain.money import Rates, Usage, UsageSource
from service.routing import prefixes
from service.routing.prefixes import (
    BLOCK_TOKENS,
    CACHE_TTL_S,
    CHAIN_BYTES_MAX,
    CHAINED_BODY_BYTES_MAX,
    HOLDERS_MAX,
    NO_CHAIN,
    ONLY_MARKED,
    WRITES,
    Prefixes,
    chain_of,
    dearest_input,
    split,
    ttl_s,
    writes_of,
)

LONG = "a long manual " * 800
"""Some 2,800 tokens."""

SYSTEM = {"role": "system", "content": LONG}
FIRST = {"role": "user", "content": "the first question"}
REPLY = {"role": "assistant", "content": "the first answer"}
SECOND = {"role": "user", "content": "the second question"}
HOST = a_model("m").deployments[0]
OTHER = a_model("o", at=("q",)).deployments[0]


def chat(*messages, **body):
    """A conversation."""
    return a_chat(messages=list(messages), **body)


def chain(*messages, salt=None, **body):
    """The chain of a conversation."""
    return chain_of(chat(*messages, **body), salt)


def read(total=3_000, cached=0, written=0, **more):
    """What a vendor reports of a prompt."""
    return Usage(total - cached - written, cached, written, output=10, **more)


def serve(held, turn, host, usage, at_s):
    """A request that was decided, sent and answered at an instant."""
    held.settled(turn, host, usage, at_s, held.warm(turn, at_s).get(host.id, 0))


def at(*quirks):
    """A deployment of a provider with quirks."""
    provider = Provider("p", "https://p.example/v1", quirks=dict(one.partition(":")[::2] for one in quirks))
    return replace(HOST, provider=provider)


def test_a_short_prompt_has_no_chain():
    """Nothing to cache, and nothing to compute."""
    assert chain(FIRST) is NO_CHAIN
    assert Prefixes().warm(NO_CHAIN, 0.0) == {}


def test_two_prompts_share_what_they_share():
    """Every message that both begin with, and none after the first that differs."""
    one, two = chain(SYSTEM, FIRST, REPLY, SECOND), chain(SYSTEM, FIRST, REPLY, FIRST)
    assert one.digests[:3] == two.digests[:3]
    assert one.digests[3] != two.digests[3]
    assert len(set(one.digests)) == 4
    assert list(one.shares) == sorted(one.shares)
    assert one.shares[-1] == 1.0


def test_tools_come_before_everything():
    """Another tool is another prompt from its first token on."""
    tool = {"type": "function", "function": {"name": "f"}}
    assert not set(chain(SYSTEM, FIRST).digests) & set(chain(SYSTEM, FIRST, tools=[tool]).digests)


def test_keys_do_not_share():
    """What one key has sent is no business of another: not even as a price."""
    mine, yours = chain(SYSTEM, FIRST, salt="key_a"), chain(SYSTEM, FIRST, salt="key_b")
    assert not set(mine.digests) & set(yours.digests)
    held = Prefixes()
    held.settled(mine, HOST, read(), 0.0)
    assert held.warm(mine, 1.0)
    assert held.warm(yours, 1.0) == {}


def test_the_next_turn_finds_what_the_last_one_left():
    """All of the vendor's own count of the turn before, at this deployment and no other."""
    held = Prefixes()
    held.settled(chain(SYSTEM, FIRST), HOST, read(3_000), 0.0)
    assert held.warm(chain(SYSTEM, FIRST, REPLY, SECOND), 1.0) == {"p/m": 3_000}
    assert held.warm(chain(FIRST, SYSTEM), 1.0) == {}


def test_a_new_conversation_shares_the_instructions():
    """In proportion to what they are of the prompt that was read."""
    held = Prefixes()
    held.settled(chain(SYSTEM, FIRST), HOST, read(3_000), 0.0)
    warm = held.warm(chain(SYSTEM, SECOND), 1.0)
    assert 2_900 < warm["p/m"] < 3_000


def test_another_ending_of_the_same_conversation():
    """Editing the newest message keeps what stood before it."""
    held = Prefixes()
    held.settled(chain(SYSTEM, FIRST, REPLY, SECOND), HOST, read(3_100), 0.0)
    assert 2_900 < held.warm(chain(SYSTEM, FIRST, REPLY, FIRST), 1.0)["p/m"] < 3_100


def test_warmth_passes():
    """After the time to live, and a new reading begins it anew."""
    held, turn = Prefixes(), chain(SYSTEM, FIRST)
    held.settled(turn, HOST, read(), 0.0)
    assert held.warm(turn, CACHE_TTL_S - 1)
    assert held.warm(turn, CACHE_TTL_S + 1) == {}
    held.settled(turn, HOST, read(), CACHE_TTL_S + 2)
    assert held.warm(turn, 2 * CACHE_TTL_S)


def test_a_provider_may_keep_longer():
    """The quirk says for how many seconds."""
    assert ttl_s(at("cache_ttl_s:3600")) == 3_600
    assert ttl_s(at()) == ttl_s(at("cache_ttl_s:soon")) == CACHE_TTL_S
    held, turn = Prefixes(), chain(SYSTEM, FIRST)
    held.settled(turn, at("cache_ttl_s:3600"), read(), 0.0)
    assert held.warm(turn, 3_000.0)


def test_no_cached_token_where_some_were_due_means_cold():
    """The vendor knows better, also for the rest of the conversation; a hit makes it warm again."""
    held = Prefixes()
    serve(held, chain(SYSTEM, FIRST), HOST, read(), 0.0)
    second = chain(SYSTEM, FIRST, REPLY, SECOND)
    serve(held, second, HOST, read(3_100, cached=0), 1.0)
    third = chain(SYSTEM, FIRST, REPLY, SECOND, REPLY, FIRST)
    assert held.warm(second, 2.0) == held.warm(third, 2.0) == {}
    serve(held, third, HOST, read(3_200, cached=0), 3.0)
    assert held.warm(third, 4.0) == {}
    serve(held, third, HOST, read(3_200, cached=3_072), 5.0)
    assert held.warm(third, 6.0) == {"p/m": 3_200}


def test_a_cold_vendor_gets_another_chance():
    """After a time to live, however often it was asked in between: one early miss is not for ever."""
    held = Prefixes()
    turn, other = chain(SYSTEM, FIRST), chain(SYSTEM, SECOND)
    serve(held, turn, HOST, read(), 0.0)
    for at_s in range(1, 300, 50):
        serve(held, other, HOST, read(cached=0), float(at_s))
        assert held.warm(other, at_s + 0.5) == {}
    serve(held, other, HOST, read(cached=0), CACHE_TTL_S + 2)
    assert held.warm(other, CACHE_TTL_S + 3)


def test_two_that_run_together_are_both_read_fresh():
    """The second finds nothing, for the first was not read yet: that is no miss."""
    held = Prefixes()
    one, two = chain(SYSTEM, FIRST), chain(SYSTEM, SECOND)
    due = held.warm(two, 0.0)
    held.settled(one, HOST, read(), 0.0)
    held.settled(two, HOST, read(cached=0), 0.5, due.get(HOST.id, 0))
    assert held.warm(two, 1.0) == {"p/m": 3_000}
    assert held.warm(chain(SYSTEM, REPLY), 1.0)


def test_a_long_answer_keeps_nothing_warm():
    """The prompt was read when it was sent; and whoever ends later does not shorten what began later."""
    held, turn = Prefixes(), chain(SYSTEM, FIRST)
    held.settled(turn, HOST, read(cached=2_048), 100.0)  # ended at once
    held.settled(turn, HOST, read(), 0.0)  # took minutes
    assert held.warm(turn, 99.0 + CACHE_TTL_S)
    assert held.warm(turn, 101.0 + CACHE_TTL_S) == {}


def test_a_first_reading_reports_none_and_is_warm_after_it():
    """Zero of what was never there is no miss; nor is a beginning shorter than any vendor caches."""
    held = Prefixes()
    short = {"role": "system", "content": "be kind"}
    serve(held, chain(short, {"role": "user", "content": LONG}), HOST, read(cached=0), 0.0)
    other = chain(short, {"role": "user", "content": LONG + "again"})
    serve(held, other, HOST, read(cached=0), 1.0)
    assert held.warm(other, 2.0) == {"p/m": 3_000}


@pytest.mark.parametrize("source", [UsageSource.ESTIMATED, UsageSource.UNKNOWN, UsageSource.COUNTED])
def test_what_no_vendor_counted_teaches_nothing(source):
    """Neither warm nor cold."""
    held, turn = Prefixes(), chain(SYSTEM, FIRST)
    held.settled(turn, HOST, read(source=source), 0.0)
    assert held.warm(turn, 1.0) == {}
    held.settled(turn, HOST, read(), 2.0)
    held.settled(turn, HOST, read(source=source), 3.0)
    assert held.warm(turn, 4.0)


def test_where_only_what_is_marked_is_cached_the_report_counts():
    """Unmarked prompts are read fresh each time; of marked ones, what was written or read is warm."""
    marked, turn = at("cache_marked"), chain(SYSTEM, FIRST)
    held = Prefixes()
    held.settled(turn, marked, read(), 0.0)
    assert held.warm(turn, 1.0) == {}
    held.settled(turn, marked, read(written=2_048), 2.0)
    assert held.warm(turn, 3.0) == {"p/m": 2_048}


def test_memory_is_bounded():
    """In prefixes, the longest unused first out; and in deployments per prefix."""
    held = Prefixes(limit=4)
    turns = [chain(SYSTEM, {"role": "user", "content": f"question {number}"}) for number in range(10)]
    for turn in turns:
        held.settled(turn, HOST, read(cached=2_048), 0.0)
    assert len(held) == 4
    assert held.warm(turns[-1], 1.0)["p/m"] == 3_000
    hosts = [replace(HOST, model=f"m{number}") for number in range(HOLDERS_MAX + 3)]
    for host in hosts:
        held.settled(turns[-1], host, read(), 0.0)
    assert len(held.warm(turns[-1], 1.0)) == HOLDERS_MAX


def test_work_is_bounded():
    """Of a long conversation only so much is hashed; what is behind it is cold. A huge body has no chain at all."""
    message = {"role": "user", "content": "x" * (CHAIN_BYTES_MAX // 4)}
    found = chain(*[message] * 8)
    assert len(found.digests) == 3
    assert found.shares[-1] < 0.5
    assert found.kept == []
    huge = chat({"role": "user", "content": "x" * CHAINED_BODY_BYTES_MAX})
    with mock.patch.object(prefixes.orjson, "dumps") as dumps:
        assert chain_of(huge, None) is NO_CHAIN
    dumps.assert_not_called()


def test_a_short_prompt_that_is_marked_is_known_to_be():
    """Nothing of it is remembered, but what it may cost has to count the writes."""
    short = chain({**FIRST, "content": [{"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}]})
    assert short is ONLY_MARKED
    assert Prefixes().warm(short, 0.0) == {}
    held = Prefixes()
    held.settled(short, HOST, read(), 0.0)
    assert len(held) == 0


def test_which_writes_a_vendor_may_bill():
    """By itself for the usual time, of what is marked for any, and where it writes marked text alone nothing else."""
    for quirks, unasked in (((), WRITES[:1]), (("cache_marked",), ()), (("cache_write_marked",), ())):
        host = at(*quirks)
        assert writes_of(host, marked=False) == unasked
        assert writes_of(host, marked=True) == WRITES
    rates = Rates(input=100, cache_write_5m=125, cache_write_1h=200)
    assert [dearest_input(rates, WRITES[:count]) for count in (0, 1, 2)] == [100, 125, 200]
    assert dearest_input(Rates(input=100, cache_write_5m=0), WRITES) == 100


def test_looking_changes_nothing():
    """A dry run may look as often as it likes."""
    held, turn = Prefixes(limit=2), chain(SYSTEM, FIRST)
    held.settled(turn, HOST, read(), 0.0)
    before = len(held)
    for _ in range(10):
        held.warm(chain(SYSTEM, SECOND), 1.0)
    assert len(held) == before
    assert held.warm(turn, 2.0)


def quote(**rates):
    """A price: 1 USD in, 2 USD out, and cache rates in pico-USD per token."""
    book = prices((1, 2), "p/m", **rates)
    return book.quote(NOW)


@pytest.mark.parametrize(
    ("rates", "host", "tokens", "warm", "marked", "expected"),
    [
        ({}, at(), 5_000, 4_000, False, (0, 0)),
        ({"cache_read": 100_000}, at(), 5_000, 4_000, False, (3_072, 0)),
        ({"cache_read": 0}, at(), 5_000, 4_000, False, (3_072, 0)),
        ({"cache_read": 100_000}, at(), 5_000, BLOCK_TOKENS - 1, False, (0, 0)),
        ({"cache_read": 100_000}, at(), 2_000, 9_000, False, (1_024, 0)),
        ({"cache_read": 100_000}, at(), 1_000, 9_000, False, (0, 0)),
        ({"cache_read": 100_000, "cache_write_5m": 1_250_000}, at(), 5_000, 2_048, False, (2_048, 2_048)),
        ({"cache_read": 100_000, "cache_write_5m": 1_250_000}, at("cache_marked"), 5_000, 0, False, (0, 0)),
        ({"cache_read": 100_000, "cache_write_5m": 1_250_000}, at("cache_marked"), 5_000, 0, True, (0, 4_096)),
        ({"cache_read": 9_000, "cache_write_5m": 1_250_000}, at("cache_write_marked"), 5_000, 2_048, False, (2_048, 0)),
        ({"cache_read": 9_000, "cache_write_5m": 1_250_000}, at("cache_write_marked"), 5_000, 0, True, (0, 4_096)),
    ],
)
def test_only_whole_blocks_and_only_what_has_a_price(rates, host, tokens, warm, marked, expected):
    """Reads where the book has a price for them, writes where it bills them and they happen."""
    assert split(quote(**rates), host, tokens, warm, marked=marked) == expected


def test_marks_are_seen():
    """A request that says itself what is to be cached."""
    part = {"type": "text", "text": LONG, "cache_control": {"type": "ephemeral"}}
    assert chain({"role": "user", "content": [part]}).marked
    assert not chain(SYSTEM, FIRST).marked


def test_marks_move_and_the_prefix_stays():
    """Clients mark the newest message: the one before it is the same without its mark, and the text still counts."""
    mark = {"cache_control": {"type": "ephemeral"}}

    def user(text, **more):
        return {"role": "user", "content": [{"type": "text", "text": text, **more}]}

    held = Prefixes()
    held.settled(chain(user(LONG, **mark)), at("cache_marked"), read(written=2_048), 0.0)
    second = chain(user(LONG), REPLY, user("go on", **mark))
    assert held.warm(second, 1.0) == {"p/m": 2_048}
    assert held.warm(chain(user(LONG + "other"), REPLY, user("go on", **mark)), 1.0) == {}
    on_the_message = chain({**SYSTEM, **mark}, FIRST)
    assert on_the_message.digests == chain(SYSTEM, {**FIRST, **mark}).digests


def test_a_deployment_is_known_by_its_id():
    """Two hosts of one model have caches of their own."""
    held, turn = Prefixes(), chain(SYSTEM, FIRST)
    held.settled(turn, HOST, read(3_000), 0.0)
    held.settled(turn, OTHER, read(2_500), 0.0)
    assert held.warm(turn, 1.0) == {"p/m": 3_000, "q/o": 2_500}
    assert isinstance(HOST, Deployment)
