"""Virtual keys: making, checking, revoking, and failing closed."""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import logging
import re
import stat
import traceback
from datetime import UTC, datetime, timedelta

import orjson
import pytest

from service.domain.access import ANONYMOUS
from service.domain.limits import NO_LIMITS, Limits
from service.errors import ConfigurationError, InvalidRequest, NotFound, RouterError, Unauthenticated
from service.guard import keyfields
from service.guard import keys as keys_module
from service.guard.keys import KEYS_FILE, KeyStore

PEPPER = bytes(range(1, 33))
NOW_MS = 1_800_000_000_000


def refusal(store, secret, **more):
    """The 401 that a secret gets."""
    with pytest.raises(Unauthenticated) as caught:
        store.authenticate(secret, now_ms=more.pop("now_ms", NOW_MS), **more)
    assert caught.value.status == 401
    assert caught.value.headers["www-authenticate"] == "Bearer"
    return caught.value


def test_a_new_key_opens_the_door_as_it_was_made(store):
    """The caller carries exactly the key's name, tags and limits."""
    new = store.create("alice", tags=["hr", "eu", "hr"], models=["gpt-6"], policies=["cheap"])
    caller = store.authenticate(new.secret, now_ms=NOW_MS)
    assert (caller.key_id, caller.name) == (new.id, "alice")
    assert (caller.tags, caller.models, caller.policies) == ({"hr", "eu"}, {"gpt-6"}, {"cheap"})


def test_secrets_have_256_bits_and_never_repeat(store):
    """`coe-` and 43 base64url characters from the system's generator."""
    made = [store.create(f"k{number}") for number in range(20)]
    assert all(re.fullmatch(r"coe-[A-Za-z0-9_-]{43}", new.secret) for new in made)
    assert len({new.secret for new in made}) == len({new.id for new in made}) == 20
    assert all(new.secret.startswith(new.hint) and len(new.hint) == 8 for new in made)


def test_missing_wrong_revoked_and_expired_are_401(store):
    """Each with its code, and none repeats what was sent."""
    store.create("other")
    dead = store.create("dead")
    store.revoke(dead.id)
    late = store.create("late", expires_at=datetime.fromtimestamp(NOW_MS / 1000, UTC) + timedelta(seconds=5))
    assert store.authenticate(late.secret, now_ms=NOW_MS + 4_999).key_id == late.id
    for missing in (None, "", "  "):
        assert refusal(store, missing).code == "missing_api_key"
    wrong = "coe-" + "A" * 43
    for secret, at_ms in ((wrong, NOW_MS), (dead.secret, NOW_MS), (late.secret, NOW_MS + 5_000)):
        refused = refusal(store, secret, now_ms=at_ms)
        assert refused.code == "invalid_api_key"
        assert secret not in refused.message


def test_near_misses_are_wrong(store):
    """A prefix, a suffix, another case, white space, the id, the hint: all unknown."""
    new = store.create("alice")
    secret = new.secret
    for near in (secret[:-1], secret + "A", secret.swapcase(), f" {secret}", new.id, new.hint, "alice", secret[4:]):
        assert refusal(store, near).code == "invalid_api_key"


@pytest.mark.parametrize("odd", ["\x00", "\ud800", "é" * 60, "coe-" + "A" * 100_000, "💶"])
def test_any_text_is_a_401_and_no_crash(store, odd):
    """What a client sends is never more than a wrong key."""
    store.create("alice")
    assert refusal(store, odd).code == "invalid_api_key"


def test_the_comparison_is_constant_time_for_hit_and_miss(store, monkeypatch):
    """Both go through `compare_digest` with full-length digests (invariant 2)."""
    new = store.create("alice")
    compared = []

    def spy(left, right):
        compared.append((len(left), len(right)))
        return hmac_compare(left, right)

    hmac_compare = hmac.compare_digest
    monkeypatch.setattr(keys_module.hmac, "compare_digest", spy)
    store.authenticate(new.secret, now_ms=NOW_MS)
    refusal(store, "coe-wrong")
    refusal(store, "x" * 1000)
    assert compared == [(32, 32)] * 3


def test_a_check_costs_one_digest_whatever_the_number_of_keys(store, monkeypatch):
    """Lookup is by digest: 300 keys are as quick as one."""
    made = [store.create(f"k{number}") for number in range(300)]
    store.list()
    digests = []
    real = KeyStore._digest
    monkeypatch.setattr(KeyStore, "_digest", lambda *given: (digests.append(1), real(*given))[1])
    store.authenticate(made[150].secret, now_ms=NOW_MS)
    refusal(store, "coe-wrong")
    assert len(digests) == 2


def test_the_file_holds_no_secret_and_is_private(store, path):
    """Digests only; 0600 in a directory of 0700."""
    secrets = [store.create(f"k{number}").secret for number in range(3)]
    content = path.read_text()
    assert not any(secret[8:] in content for secret in secrets)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_the_stored_digest_is_keyed_with_the_pepper(path):
    """HMAC-SHA256 under the pepper, so that the file alone can't be searched for a guessed secret."""
    new = KeyStore(path, PEPPER).create("alice")
    stored = orjson.loads(path.read_bytes())["digest"]
    assert stored == hmac.new(PEPPER, b"secret:" + new.secret.encode(), hashlib.sha256).hexdigest()


def test_another_pepper_lets_nobody_in(tmp_path):
    """A file moved to a router with another pepper opens nothing, and says so to its operator."""
    first = KeyStore(tmp_path / KEYS_FILE, PEPPER)
    new = first.create("alice")
    second = KeyStore(tmp_path / KEYS_FILE, bytes(32))
    with pytest.raises(ConfigurationError, match="COE_KEY_PEPPER"):
        second.list()
    with pytest.raises(RouterError):
        second.authenticate(new.secret, now_ms=NOW_MS)


def test_canary_secrets_appear_nowhere(store, path, caplog):
    """Not in `repr`, `str`, log records, messages or tracebacks; neither good nor wrong ones (I17)."""
    caplog.set_level(logging.DEBUG)
    new = store.create("alice")
    dead = store.create("dead")
    store.revoke(dead.id)
    wrong = "coe-CANARY-" + "Zq9" * 12
    said = [repr(new), str(new), repr(store), repr(store.list()), repr(store.authenticate(new.secret, now_ms=NOW_MS))]
    for attempt in (
        lambda: store.authenticate(wrong, now_ms=NOW_MS),
        lambda: store.authenticate(dead.secret, now_ms=0),
    ):
        with pytest.raises(Unauthenticated) as caught:
            attempt()
        said += ["".join(traceback.format_exception(caught.value)), repr(caught.value), str(caught.value.body())]
    for pasted in (new.secret, wrong):
        with pytest.raises(NotFound) as missed:
            store.revoke(pasted)
        said += ["".join(traceback.format_exception(missed.value)), str(missed.value.body())]
    with path.open("ab") as file:
        file.write(f"{wrong}\n".encode())
    with pytest.raises(RouterError) as failed:
        store.authenticate(new.secret, now_ms=NOW_MS)
    said += ["".join(traceback.format_exception(failed.value)), caplog.text]
    everything = "\n".join(said)
    digests = [record.digest for record in store._book.by_id.values()]
    for canary in (new.secret[8:], dead.secret[8:], wrong, PEPPER.hex(), repr(PEPPER), *map(bytes.hex, digests)):
        assert canary not in everything
    assert not any(repr(digest) in everything for digest in digests)


def test_without_any_key_anonymous_is_only_let_in_where_it_is_allowed(store):
    """The default is a 401; on loopback any token goes, since client libraries insist on sending one."""
    assert refusal(store, None).code == "missing_api_key"
    assert refusal(store, "coe-whatever").code == "invalid_api_key"
    assert not store.keys_exist()
    assert store.authenticate(None, now_ms=NOW_MS, allow_anonymous=True) is ANONYMOUS
    assert store.authenticate("sk-anything", now_ms=NOW_MS, allow_anonymous=True) is ANONYMOUS


def test_the_first_key_closes_the_door_and_revoking_it_does_not_open_it(store):
    """Invariant 5: `exists` means `was ever made`."""
    new = store.create("alice")
    assert refusal(store, None, allow_anonymous=True).code == "missing_api_key"
    store.revoke("alice")
    assert store.keys_exist()
    assert refusal(store, None, allow_anonymous=True).code == "missing_api_key"
    assert refusal(store, new.secret, allow_anonymous=True).code == "invalid_api_key"


def test_revoke_by_id_and_by_name(store):
    """A name works while one unrevoked key has it; else the ids are listed."""
    first, second = store.create("ci"), store.create("ci")
    with pytest.raises(InvalidRequest) as caught:
        store.revoke("ci")
    assert first.id in caught.value.message
    assert second.id in caught.value.message
    assert store.revoke(first.id).revoked_ms == NOW_MS
    assert store.revoke("ci").id == second.id
    with pytest.raises(NotFound):
        store.revoke("ci")
    assert [record.status(NOW_MS) for record in store.list()] == ["revoked", "revoked"]


def test_revoking_twice_writes_once(store, path):
    """A repeated command is no error and no new event."""
    new = store.create("alice")
    store.revoke(new.id)
    before = path.read_bytes()
    assert store.revoke(new.id).revoked_ms == NOW_MS
    assert path.read_bytes() == before


def test_revoking_where_there_are_no_keys_makes_no_file(store, path):
    """A wrong data directory stays as empty as it was."""
    with pytest.raises(NotFound):
        store.revoke("alice")
    assert not path.parent.exists()


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"name": ""}, "name"),
        ({"name": " alice"}, "name"),
        ({"name": "a\x1b[31m"}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "\ud800"}, "name"),
        ({"name": "a" * 101}, "name"),
        ({"name": "key_0123"}, "name"),
        ({"name": "coe-abc"}, "name"),
        ({"tags": ["a b"]}, "tags"),
        ({"tags": [""]}, "tags"),
        ({"tags": ["a,b"]}, "tags"),
        ({"tags": [f"t{number}" for number in range(65)]}, "tags"),
        ({"models": ["auto"]}, "models"),
        ({"models": ["auto:cheap"]}, "models"),
        ({"models": ["plan:panel"]}, "models"),
        ({"models": ["openai/gpt-6"]}, "models"),
        ({"policies": ["x" * 129]}, "policies"),
        ({"note": "a\rb"}, "note"),
        ({"expires_at": datetime(2099, 1, 1)}, "expires_at"),  # noqa: DTZ001  # the missing zone is the test
        ({"expires_at": datetime(2001, 1, 1, tzinfo=UTC)}, "expires_at"),
        ({"limits": Limits(soft=True)}, "soft"),
    ],
)
def test_keys_that_make_no_sense_are_not_made(store, path, given, param):
    """Each is refused with the field to blame, before anything is written."""
    with pytest.raises(InvalidRequest) as caught:
        store.create(**({"name": "alice"} | given))
    assert caught.value.param == param
    assert not path.exists()


def test_the_widest_legal_key_fits_its_line(store):
    """Every label at its limit, of characters that take the most bytes."""
    wide = [f"{chr(0x20000 + number)}" * keyfields.LABEL_CHARACTERS_MAX for number in range(keyfields.LABELS_MAX)]
    name = "\U00020000" * keyfields.NAME_CHARACTERS_MAX
    note = "\U00020000" * keyfields.NOTE_CHARACTERS_MAX
    most = Limits(4_000_000 * 10**12, 4_000_000 * 10**12, 10**9, 10**9, 100_000, soft=True)
    new = store.create(name, tags=wide, models=wide, policies=wide, note=note, limits=most)
    assert store.authenticate(new.secret, now_ms=NOW_MS).name == name


def test_the_number_of_keys_is_limited(store, monkeypatch):
    """The limit refuses the next key and harms none."""
    monkeypatch.setattr(keys_module, "KEYS_MAX", 2)
    made = [store.create("a"), store.create("b")]
    with pytest.raises(InvalidRequest, match="already 2 keys"):
        store.create("c")
    assert [store.authenticate(new.secret, now_ms=NOW_MS).name for new in made] == ["a", "b"]


def test_a_place_that_can_not_be_written_is_told(tmp_path):
    """A file where the directory should be: nothing is made, and the error says what to do."""
    (tmp_path / "data").touch()
    with pytest.raises(RouterError, match="data directory") as caught:
        KeyStore(tmp_path / "data" / KEYS_FILE, PEPPER).create("alice")
    assert caught.value.code == "keys_unwritable"


def test_a_short_pepper_makes_no_store(path):
    """Nobody builds a store around `load_pepper` with a weak one by mistake."""
    with pytest.raises(ConfigurationError, match="pepper"):
        KeyStore(path, b"short")


TIGHT = Limits(day_pusd=5 * 10**12, concurrency=8)


def test_limits_of_a_key_are_those_it_was_made_with(store):
    """And the caller carries them; a key that is made without has none."""
    tight, free = store.create("tight", limits=TIGHT), store.create("free")
    assert store.authenticate(tight.secret, now_ms=NOW_MS).limits == TIGHT
    assert store.authenticate(free.secret, now_ms=NOW_MS).limits == NO_LIMITS


def test_a_change_of_limits_reaches_the_caller(store):
    """Also of a key that has called before: what is remembered of it is of the record it was made of."""
    new, other = store.create("alice"), store.create("other")
    before = store.authenticate(new.secret, now_ms=NOW_MS)
    untouched = store.authenticate(other.secret, now_ms=NOW_MS)
    assert before is store.authenticate(new.secret, now_ms=NOW_MS)
    changed = store.limit("alice", lambda limits: dataclasses.replace(limits, day_pusd=7))
    assert (changed.id, changed.limits) == (new.id, Limits(day_pusd=7))
    assert store.authenticate(new.secret, now_ms=NOW_MS).limits == Limits(day_pusd=7)
    store.limit(new.id, lambda limits: dataclasses.replace(limits, concurrency=3))
    after = store.authenticate(new.secret, now_ms=NOW_MS)
    assert after.limits == Limits(day_pusd=7, concurrency=3)
    assert dataclasses.replace(after, limits=NO_LIMITS) == before
    assert store.authenticate(other.secret, now_ms=NOW_MS) is untouched


def test_limits_as_they_were_write_nothing(store, path):
    """A repeated command is no event."""
    store.create("alice", limits=TIGHT)
    before = path.read_bytes()
    assert store.limit("alice", lambda _: TIGHT).limits == TIGHT
    assert path.read_bytes() == before


def test_the_last_limit_takes_soft_with_it(store):
    """So that the next one that is given is hard unless it says otherwise."""
    store.create("alice", limits=dataclasses.replace(TIGHT, soft=True))
    gone = store.limit("alice", lambda limits: dataclasses.replace(limits, day_pusd=None, concurrency=None))
    assert gone.limits == NO_LIMITS


def test_limits_that_can_not_be_changed_are_told(store, path):
    """Soft without a limit, a revoked key, a name that several have, nobody: and nothing is written."""
    first = store.create("ci")
    store.create("ci")
    dead = store.create("dead")
    store.revoke("dead")
    before = path.read_bytes()
    for whom, change, param in (
        (first.id, lambda _: Limits(soft=True), "soft"),
        (dead.id, lambda _: TIGHT, "key"),
        ("ci", lambda _: TIGHT, "key"),
    ):
        with pytest.raises(InvalidRequest) as caught:
            store.limit(whom, change)
        assert caught.value.param == param
    for nobody in ("dead", "nobody", "coe-" + "A" * 43):
        with pytest.raises(NotFound) as missed:
            store.limit(nobody, lambda _: TIGHT)
        assert nobody not in missed.value.message.split("`")[0]
    assert path.read_bytes() == before


def test_a_derived_secret_is_of_this_pepper_and_this_purpose(tmp_path):
    """The same in every process; it says nothing of the pepper, and another purpose has another."""
    one = KeyStore(tmp_path / "keys.jsonl", b"p" * 32)
    other = KeyStore(tmp_path / "keys.jsonl", b"q" * 32)
    assert one.derived(b"a") == KeyStore(tmp_path / "elsewhere", b"p" * 32).derived(b"a")
    assert len({one.derived(b"a"), one.derived(b"b"), other.derived(b"a"), b"p" * 32}) == 4
    assert len(one.derived(b"a")) == 32
