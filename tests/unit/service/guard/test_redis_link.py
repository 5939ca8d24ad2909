"""The way to a real Redis: what it says when the server is paused, killed, emptied, locked or copied, and by every URL.

What the script answers is held to one contract with memory in tests/contract/test_counters.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import hostile
import pytest
from redis_server import RedisServer, need_redis
from stage import free_port

from service.guard import counters as counters_module
from service.guard.counters import ASK_S, SharedCounters, StoreLost
from service.guard.counting import MONEY, RATE, SLOTS, Counter, Ended, Line, Message, Reply, Share, State
from service.guard.holdings import SHARES_PER_MESSAGE
from service.guard.redis_link import RedisLink, _reply

SECRET = "s3cret/canary@%"
FAR_MS = time.time_ns() // 1_000_000 + 10**9
POT = Counter(MONEY, "m:k:one:2026-11-22", FAR_MS)
ASKED = Counter(RATE, "r:k:one:q")
SLOT = Counter(SLOTS, "c:k:one")
SLACK_S = 0.1


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> Iterator[RedisServer]:
    """A server for tests that leave it running."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.kill()


@pytest.fixture
def server(kept):
    """It, empty."""
    kept.command("FLUSHALL")
    return kept


@pytest.fixture
def fresh(tmp_path):
    """`fresh(**how)` starts a server that the test may break."""
    running = []

    def start(name="fresh", **how):
        running.append(RedisServer(tmp_path / name, **how))
        return running[-1]

    yield start
    for one in running:
        with contextlib.suppress(ProcessLookupError, AssertionError):
            one.go_on()
        one.kill()


@pytest.fixture
async def linked():
    """`linked(url)` gives a link that ends with the test."""
    running = []

    def to(url, prefix="test"):
        running.append(RedisLink(url, prefix))
        return running[-1]

    yield to
    for one in running:
        await one.close()


class Member:
    """A process as the store hears it."""

    def __init__(self, link, name="one"):
        self.link, self.name, self.number, self.heard = link, name, 0, 0

    async def say(self, *asks, shares=(), joins=False, within_s=2.0) -> Reply:
        self.number += 1
        message = Message(self.name, self.number, self.heard, 30_000, shares, asks, joins, 0)
        reply = await self.link.exchange(message, within_s)
        self.heard = self.number if reply.state is State.TAKEN else 0
        return reply

    async def takes(self, *lines) -> bool:
        (verdict,) = (await self.say([list(lines)])).verdicts
        return verdict.taken == 0


async def joined(link, name="one"):
    """A member that the store knows."""
    member = Member(link, name)
    assert (await member.say(joins=True)).state is State.TAKEN
    return member


def money(amount, counter=POT, limit=100):
    return Line(counter, amount, limit)


def told_by(problem):
    """All that anybody may see of an error."""
    return "".join(traceback.format_exception(problem)) + repr(problem)


def descriptors():
    """How many files and sockets this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


# what is said


async def test_a_message_and_its_reply(server, linked):
    """Every kind of counter, told and asked."""
    one = await joined(linked(server.url))
    assert await one.takes(money(60), Line(ASKED, 1, 60), Line(SLOT, 1, 1))
    reply = await one.say([[money(41)], [money(40)]], [[Line(SLOT, 1, 1)]], shares=(Share(POT, 0, 60, known=True),))
    assert [(verdict.taken, verdict.line, verdict.used) for verdict in reply.verdicts] == [
        (1, -1, (100,)),
        (-1, 0, (1,)),
    ]


async def test_prefixes_keep_routers_apart(server, linked):
    """That share a server and not their budgets."""
    one, other = await joined(linked(server.url)), await joined(linked(server.url, "other"))
    assert await one.takes(money(60))
    assert await other.takes(money(60))
    assert not await one.takes(money(60))


async def test_a_server_that_forgot_the_script_is_told_it_again(server, linked):
    """And counts once."""
    one = await joined(linked(server.url))
    server.command("SCRIPT", "FLUSH")
    assert await one.takes(money(60))
    assert await one.takes(money(40))


async def test_everything_that_counts_ends_by_itself(server, linked):
    """What is kept without an end is one entry for each member that lives."""
    one = await joined(linked(server.url))
    assert await one.takes(money(60), Line(ASKED, 1, 60), Line(SLOT, 1, 1))
    for _ in range(2):
        lasting = {key for key in keys_of(server) if server.command("PTTL", key) == b":-1\r\n"}
        assert lasting == {"{test}:members", "{test}:alive", "{test}:ready", "{test}:of:one"}
        await one.say(shares=(Share(POT, 3, 0), Share(SLOT, 0, 0), Share(ASKED, 0, -1, limit=60)))
    await one.link.end(Ended("one", (Share(POT, 3, 0),), last=True), 2)
    assert "{test}:of:one" not in keys_of(server)
    assert (server.command("HLEN", "{test}:members"), server.command("ZCARD", "{test}:alive")) == (b":0\r\n",) * 2


def keys_of(server):
    """Every key of a small server."""
    return {one for one in server.command("KEYS", "*").decode().split("\r\n") if one.startswith("{")}


# who is no more


async def test_the_end_of_a_member_gives_back_what_its_ledger_does_not_name(server, linked):
    """Told by many, and often."""
    one, two = await joined(linked(server.url)), await joined(linked(server.url), "two")
    other = Counter(MONEY, "m:k:other:2026-11-22", FAR_MS)
    assert await one.takes(money(60), money(50, other), Line(SLOT, 1, 1))
    for _ in range(2):
        await two.link.end(Ended("one", (Share(POT, 7, 0),), last=True), 2)
    assert await two.takes(money(93), money(100, other), Line(SLOT, 1, 1))
    assert not await two.takes(money(1))
    assert (await one.say()).state is State.UNKNOWN


async def test_who_comes_back_after_its_end_may_end_again(server, linked):
    """Nobody should; what it takes then is found all the same."""
    one, two = await joined(linked(server.url)), await joined(linked(server.url), "two")
    for _ in range(2):
        assert await one.takes(money(60))
        await two.link.end(Ended("one", (), last=True), 2)
        await one.say(joins=True)
    assert await two.takes(money(100))


async def test_the_end_of_a_member_that_never_spoke_counts(server, linked):
    """What it spent while there was no store."""
    one = await joined(linked(server.url))
    await one.link.end(Ended("stranger", (Share(POT, 60, 0),), last=True), 2)
    await one.link.end(Ended("nobody", (), last=True), 2)
    assert not await one.takes(money(41))
    assert await one.takes(money(40))


async def test_the_end_of_a_member_comes_in_pieces(server, linked):
    """Others wait no longer than for a message."""
    one = await joined(linked(server.url))
    pots = [Counter(MONEY, f"m:k:{number}:2026-11", FAR_MS) for number in range(2 * SHARES_PER_MESSAGE + 1)]
    await one.link.end(Ended("gone", [Share(pot, 7, 0) for pot in pots], last=True), 2)
    assert "{test}:of:gone" not in keys_of(server)
    for pot in pots[::SHARES_PER_MESSAGE]:
        assert (await one.say([[money(94, pot)]])).verdicts[0].used == (7,)


async def test_a_window_that_is_over_does_not_come_back_with_an_end(server, linked):
    """A process that ran for a year had a share in many: nothing would ever clear them away."""
    one = await joined(linked(server.url))
    assert await one.takes(money(60))
    server.command("DEL", f"{{test}}:{POT.name}")
    await one.link.end(Ended("one", (), last=True), 2)
    assert f"{{test}}:{POT.name}" not in keys_of(server)


# what goes wrong


async def test_a_paused_server_is_given_up_in_time_and_its_late_reply_is_nobodys(fresh, linked):
    """The connection goes with it: what it says later would be taken for the answer to something else."""
    server = fresh()
    one = await joined(linked(server.url))
    server.pause()
    begun = time.monotonic()
    with pytest.raises(StoreLost, match="no reply within 100 ms"):
        await one.say([[money(60)]], within_s=0.1)
    assert time.monotonic() - begun < 0.1 + SLACK_S
    assert one.link._client is None
    server.go_on()
    reply = await one.say([[money(1, limit=0)]], [[money(2)]])
    assert [verdict.taken for verdict in reply.verdicts] == [-1, 0]
    assert reply.verdicts[1].used in {(2,), (62,)}, "the lost one may have been taken: its counter is told again"


async def test_a_server_that_dies_is_noticed_at_once_and_found_when_it_is_back(fresh, linked):
    """It knows nobody then."""
    server = fresh()
    one = await joined(linked(server.url))
    server.kill()
    begun = time.monotonic()
    for _ in range(2):
        with pytest.raises(StoreLost, match="ConnectionError"):
            await one.say([[money(60)]])
    assert time.monotonic() - begun < 1
    await one.link.close()
    await one.link.close()
    server.start()
    assert (await one.say()).state is State.UNKNOWN
    assert (await one.say(joins=True)).state is State.TAKEN


async def test_a_wrong_password_is_told_without_it(fresh, linked):
    """A right one is used as it is written in the URL: percent-encoded."""
    server = fresh()
    server.command("CONFIG", "SET", "requirepass", SECRET)
    host = f"127.0.0.1:{server.port}"
    for said in ("", "wrong-canary"):
        with pytest.raises(StoreLost, match=r"COE_REDIS_URL are wrong or missing \(Auth") as caught:
            await Member(linked(f"redis://:{said}@{host}" if said else f"redis://{host}")).say(joins=True)
        assert "canary" not in told_by(caught.value)
        assert host not in str(caught.value)
    await joined(linked(f"redis://:{quote(SECRET, safe='')}@{host}"))


async def test_a_copy_that_only_reads_is_no_store(server, fresh, linked):
    """It may be behind, and can't be written to."""
    copy = fresh(replica_of=server.port)
    await joined(linked(server.url))
    await synced(copy)
    with pytest.raises(StoreLost, match="ReadOnlyError"):
        await Member(linked(copy.url), "two").say(joins=True)


async def synced(copy):
    """Wait until a replica has its master's state."""
    due = time.monotonic() + 10
    while b"master_link_status:up" not in copy.command("INFO", "replication"):
        assert time.monotonic() < due
        await asyncio.sleep(0.02)


async def test_nobody_there_is_told_at_once(linked):
    """By every way."""
    port = free_port()
    for url in (
        f"redis://127.0.0.1:{port}",
        f"rediss://127.0.0.1:{port}",
        f"redis+sentinel://127.0.0.1:{port}/mymaster",
        f"redis+cluster://127.0.0.1:{port}",
        "unix:///nowhere/redis.sock",
    ):
        begun = time.monotonic()
        with pytest.raises(StoreLost) as caught:
            await Member(linked(url)).say(joins=True)
        assert time.monotonic() - begun < 2
        assert str(port) not in str(caught.value)


async def test_who_leaves_takes_the_connection_along(fresh, linked):
    """Its reply would be the next one's."""
    server = fresh()
    one = await joined(linked(server.url))
    server.pause()
    leaving = asyncio.create_task(one.say([[money(60)]]))
    await asyncio.sleep(0.02)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert one.link._client is None
    server.go_on()
    assert len((await one.say([[money(1)]], [[money(1)]])).verdicts) == 2


async def test_time_that_the_loop_was_held_up_is_no_loss(server, linked):
    """The reply was there all the while."""
    one = await joined(linked(server.url))
    server.pause()
    asking = asyncio.create_task(one.say([[money(1)]], within_s=ASK_S))
    await asyncio.sleep(0.01)
    server.go_on()
    time.sleep(ASK_S + 0.1)
    assert (await asking).state is State.TAKEN


async def test_who_fails_late_does_not_take_the_next_connection_away(fresh, linked):
    """Two may call at a time: the end of others, and our own messages."""
    server = fresh()
    one = await joined(linked(server.url))
    server.pause()
    late = asyncio.create_task(one.link.end(Ended("gone", (), last=True), 0.3))
    await asyncio.sleep(0.01)
    with pytest.raises(StoreLost):
        await one.say(within_s=0.05)
    asking = asyncio.create_task(one.say(within_s=5))
    await asyncio.sleep(0)
    used = one.link._client
    with pytest.raises(StoreLost):  # its connection is closed under it, while the next one is open already
        await late
    server.go_on()
    await asking
    assert one.link._client is used is not None


@pytest.mark.parametrize(
    "found", [None, [], [0, 0, []], [9, 0, [], 0], [0, 0, [[1, 2]], 0], [0, 0, [["x", 0, 0, []]], 0], [0, 0, [], 0]]
)
def test_what_no_script_of_ours_says_is_no_reply(found):
    """Another program under the same name, or an answer that lacks one of our asks."""
    with pytest.raises(StoreLost):
        _reply(found, [[[money(1)]]])


def test_a_store_that_does_not_answer_asks_need_not(server):
    """It gathers, or knows nobody."""
    assert _reply([3, 250, [], 77], [[[money(1)]]]) == Reply(State.GATHERING, 250, (), 77)
    assert _reply([1, 0, [], 0], [[[money(1)]]]).state is State.UNKNOWN


# by other ways


async def test_by_a_socket_of_this_machine(fresh, linked, tmp_path):
    """`unix://`, which has its database in an option."""
    path = tmp_path / "redis.sock"
    server = fresh(options=("--unixsocket", str(path)))
    assert await (await joined(linked(f"unix://{path}?db=1"))).takes(money(60))
    assert keys_of(server) == set(), "they are in the other database"


async def test_by_the_other_name(server, linked):
    """`valkey://` is the same."""
    one = await joined(linked(server.url.replace("redis", "valkey")))
    assert await one.takes(money(60))


async def test_by_tls(fresh, linked, tmp_path):
    """Certificates are checked, under both names."""
    place = tmp_path / "certificates"
    place.mkdir()
    hostile._made_in(place)
    port = free_port()
    files = ("--tls-cert-file", f"{place}/good.pem", "--tls-key-file", f"{place}/good.key")
    fresh(
        options=("--tls-port", str(port), "--tls-auth-clients", "no", "--tls-ca-cert-file", f"{place}/ca.pem", *files)
    )
    for scheme in ("rediss", "valkeys"):
        await joined(linked(f"{scheme}://127.0.0.1:{port}?ssl_ca_certs={place}/ca.pem"), scheme)
        with pytest.raises(StoreLost, match="ConnectionError"):
            await Member(linked(f"{scheme}://127.0.0.1:{port}")).say(joins=True)


async def test_by_a_cluster(fresh, linked):
    """One hash tag: all keys are where one script may count them. A message is sent once, whatever happens."""
    server = fresh(options=("--cluster-enabled", "yes"))
    server.command("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
    due = time.monotonic() + 10
    while b"cluster_state:ok" not in server.command("CLUSTER", "INFO"):
        assert time.monotonic() < due
        await asyncio.sleep(0.02)
    before = descriptors()
    one = await joined(linked(f"redis+cluster://127.0.0.1:{server.port}"))
    assert await one.takes(money(60), Line(ASKED, 1, 60), Line(SLOT, 1, 1))
    await one.link.end(Ended("gone", (Share(POT, 7, 0),), last=True), 2)
    server.command("SCRIPT", "FLUSH")
    assert not await one.takes(money(34))
    server.pause()
    with pytest.raises(StoreLost):
        await one.say([[money(1)]], within_s=0.1)
    server.go_on()
    assert await one.takes(money(30))
    server.kill()
    begun = time.monotonic()
    with pytest.raises(StoreLost):
        await one.say()
    assert time.monotonic() - begun < 2
    await one.link.close()
    assert descriptors() == before, "what was given up is closed, not left to be found"


@pytest.fixture
def sentinel(fresh, tmp_path):
    """(its port, the master, a copy of it)."""
    master = fresh("master")
    copy = fresh("copy", replica_of=master.port)
    port = free_port()
    file = tmp_path / "sentinel.conf"
    file.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {tmp_path}\n"
        f"sentinel monitor mymaster 127.0.0.1 {master.port} 1\n"
        "sentinel down-after-milliseconds mymaster 300\nsentinel failover-timeout mymaster 1000\n"
    )
    with (tmp_path / "sentinel.log").open("wb") as log:
        process = subprocess.Popen([need_redis(), str(file), "--sentinel"], stdout=log, stderr=log)
    yield port, master, copy
    process.kill()
    process.wait()


async def test_by_sentinels_also_after_another_took_over(sentinel, linked, monkeypatch):
    """The master dies; its copy has what was told to it, and is told the rest."""
    port, master, copy = sentinel
    await synced(copy)
    monkeypatch.setattr(counters_module, "GRACE_MS", 200)
    before = descriptors()
    counters = SharedCounters(RedisLink(f"redis+sentinel://127.0.0.1:1,127.0.0.1:{port}/mymaster/1", "test"))
    counters.start("one")
    assert await counters.is_ready(10), counters.problem
    assert (await counters.ask([[money(60)]])).taken == 0
    due = time.monotonic() + 10
    while b"num-slaves\r\n$1\r\n1" not in sentinel_says(port):  # a sentinel looks for copies every second or ten
        assert time.monotonic() < due
        await asyncio.sleep(0.05)
    master.kill()
    while not counters.problem:
        with contextlib.suppress(StoreLost):
            await counters.ask([[money(0)]])
        await asyncio.sleep(0.01)
    assert await counters.is_ready(15), counters.problem
    assert b"role:master" in copy.command("INFO", "replication")
    assert (await counters.ask([[money(41)]])).taken == -1
    assert (await counters.ask([[money(40)]])).taken == 0
    await counters.close()
    assert descriptors() == before
    assert keys_of(copy) == set(), "they are in the other database"


def sentinel_says(port):
    """What it knows of the master."""
    import socket

    with socket.create_connection(("127.0.0.1", port), timeout=5) as wire:
        wire.sendall(b"*3\r\n$8\r\nSENTINEL\r\n$6\r\nMASTER\r\n$8\r\nmymaster\r\n")
        return wire.recv(65_536)


# I13, with the counters on top


async def test_nobody_hangs_on_a_store_that_is_paused_and_it_is_back_within_seconds(fresh, monkeypatch):
    """And what was in flight then is neither lost nor held twice."""
    server = fresh()
    monkeypatch.setattr(counters_module, "GRACE_MS", 100)
    counters = SharedCounters(RedisLink(server.url, "test"))
    counters.start("one")
    assert await counters.is_ready(5)
    assert (await counters.ask([[money(60), Line(SLOT, 1, 2)]])).taken == 0
    server.pause()
    waits = []
    for _ in range(5):
        begun = time.monotonic()
        with pytest.raises(StoreLost):
            await counters.ask([[money(40), Line(SLOT, 1, 2)]])
        waits.append(time.monotonic() - begun)
    assert max(waits) < ASK_S + SLACK_S
    await asyncio.sleep(0.6)  # until its connection is given up, and then some
    with pytest.raises(StoreLost):
        await counters.ask([[money(40)]])
    server.go_on()
    begun = time.monotonic()
    assert await counters.is_ready(5)
    assert time.monotonic() - begun < 5
    assert (await counters.ask([[money(40), Line(SLOT, 1, 2)]])).taken == 0
    assert (await counters.ask([[money(1)]])).taken == -1
    await counters.close()


async def test_a_store_that_comes_back_empty_is_told_what_it_held(fresh, monkeypatch):
    """Two members, both of which hold something: nobody asks before both have told."""
    server = fresh()
    monkeypatch.setattr(counters_module, "GRACE_MS", 1_000)
    members = [SharedCounters(RedisLink(server.url, "test")) for _ in range(2)]
    for number, one in enumerate(members):
        one.start(f"m{number}")
    assert all([await one.is_ready(5) for one in members])
    assert [(await one.ask([[money(40)]])).taken for one in members] == [0, 0]
    server.restart()
    begun = time.monotonic()
    for one in members:
        with contextlib.suppress(StoreLost):
            await one.ask([[money(1)]])
    assert all([await one.is_ready(8) for one in members])
    assert 0.9 <= time.monotonic() - begun < 5
    assert [(await one.ask([[money(21)]])).taken for one in members] == [-1, -1]
    assert (await members[0].ask([[money(20)]])).taken == 0
    for one in members:
        await one.close()
