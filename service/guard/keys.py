"""Virtual keys: who may call this router. Made and revoked by `coe keys`, checked on every request.

Where on the path: step 1, `authenticate` turns the secret of a request into a `Caller` or a 401.

Invariants
1. A secret is 256 random bits, shown once by `create` and kept nowhere: the file and memory hold its HMAC-SHA256 with
   the pepper. No error, `repr` or log line holds a secret, neither a good one nor a wrong one.
2. Every check ends in one constant-time comparison, also when no key has the digest.
3. A change of the file counts at most `RECHECK_S` later, in every process. The way there is one `stat`.
4. Fail closed: a file that is unreadable, damaged, gone, or no longer holds what was read before lets nobody in.
5. Anonymous callers exist only while no key was ever created, and only where the caller of `authenticate` says so:
   revoking the last key does not open the door.
"""

from __future__ import annotations

import hmac
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from service.domain.access import ANONYMOUS, Caller
from service.domain.limits import NO_LIMITS, Limits
from service.errors import (
    ConfigurationError,
    InvalidRequest,
    KeysUnavailable,
    NotFound,
    RouterError,
    Unauthenticated,
)
from service.guard.keyfields import (
    NOTE_CHARACTERS_MAX,
    SECRET_PREFIX,
    check_model,
    expiry_of,
    labels_of,
    limits_of,
    name_of,
    plain,
)
from service.guard.keyfile import (
    DIGEST_BYTES,
    FILE_BYTES_MAX,
    KeyBook,
    KeyRecord,
    append,
    create_line,
    limit_line,
    locked,
    revoke_line,
)
from service.guard.pepper import KEYS_FILE, PEPPER_BYTES_MIN, load_pepper

__all__ = ["KEYS_FILE", "KeyRecord", "KeyStore", "NewKey", "load_pepper"]

RECHECK_S = 0.25
"""A quarter of the second within which a revocation must count: a slow check still makes it."""
SECRET_BYTES = 32
SECRET_CHARACTERS_MAX = 256
"""Longer bearer tokens are refused unhashed: a key of ours has 47 characters."""
HINT_CHARACTERS = 8
"""The prefix and 4 random characters: enough to recognise a key, 232 bits short of guessing it."""
KEYS_MAX = 200_000
"""Revoked ones included. Twice what loading was measured with."""
AMBIGUOUS_SHOWN = 10

_NOBODY = bytes(DIGEST_BYTES)
_CHALLENGE = {"www-authenticate": "Bearer"}


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key just made. `secret` is shown to its owner now and can't be had again."""

    id: str
    secret: str = field(repr=False)
    hint: str = ""


class KeyStore:
    """The keys of one `keys.jsonl`. Safe to share between threads; other processes may write the file at any time."""

    def __init__(
        self,
        path: Path,
        pepper: bytes,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """Nothing is read yet. `pepper` comes from `load_pepper`; raises `ConfigurationError` when it is too short."""
        if len(pepper) < PEPPER_BYTES_MIN:
            raise ConfigurationError(
                f"The key pepper is shorter than {PEPPER_BYTES_MIN} bytes: get it from load_pepper."
            )
        self._path = path
        self._pepper = pepper
        self._mac = hmac.new(pepper, b"secret:", "sha256")
        self._monotonic = monotonic
        self._wall_ms = wall_ms
        self._lock = threading.Lock()
        self._book = KeyBook(str(path), pepper)
        self._callers: dict[str, tuple[KeyRecord, Caller]] = {}
        self._signature: tuple[int, int, int, int] | None = None
        self._checked_s: float | None = None
        self._problem: str | None = None

    def derived(self, purpose: bytes) -> bytes:
        """A secret of 32 bytes for another use, of the same pepper: neither tells anything of the other."""
        return hmac.digest(self._pepper, b"derived:" + purpose, "sha256")

    def create(
        self,
        name: str,
        *,
        tags: Iterable[str] = (),
        models: Iterable[str] = (),
        policies: Iterable[str] = (),
        expires_at: datetime | None = None,
        note: str = "",
        limits: Limits = NO_LIMITS,
    ) -> NewKey:
        """Make a key and write it down. The returned secret exists nowhere else.

        `models` and `policies` limit the key to those names of the registry; empty is no limit. `expires_at` is an
        aware instant, the first at which the key is refused. Raises `InvalidRequest` with `param`, `RouterError` (codes
        `keys_busy`, `keys_unwritable`) and `ConfigurationError` (the file is damaged).
        """
        now_ms = self._wall_ms()
        secret = SECRET_PREFIX + secrets.token_urlsafe(SECRET_BYTES)
        record = KeyRecord(
            id=f"key_{secrets.token_hex(8)}",
            name=name_of(name),
            digest=self._digest(secret),
            hint=secret[:HINT_CHARACTERS],
            tags=labels_of("tags", tags),
            models=labels_of("models", models),
            policies=labels_of("policies", policies),
            created_ms=now_ms,
            expires_ms=expiry_of(expires_at, now_ms),
            note=plain("note", note, NOTE_CHARACTERS_MAX),
            limits=limits_of(limits),
        )
        for model in record.models:
            check_model(model)

        def event(book: KeyBook) -> bytes:
            if len(book.by_id) >= KEYS_MAX:
                raise InvalidRequest(f"There are already {KEYS_MAX} keys: start a new key file.")
            return create_line(record)

        self._write(event)
        return NewKey(record.id, secret, record.hint)

    def revoke(self, id_or_name: str) -> KeyRecord:
        """Revoke a key by id, or by name when exactly one unrevoked key has it. Returns the key as it is now.

        A key that is already revoked stays as it is. Raises `NotFound`, `InvalidRequest` (ambiguous), `RouterError` and
        `ConfigurationError` as `create` does.
        """

        def event(record: KeyRecord) -> bytes | None:
            return None if record.revoked_ms is not None else revoke_line(record.id, self._wall_ms())

        return self._append_to(id_or_name, event)

    def limit(self, id_or_name: str, change: Callable[[Limits], Limits]) -> KeyRecord:
        """Give a key what `change` makes of its limits, found as by `revoke`. Returns the key as it is now.

        Two changes at a time lose nothing of each other: each is made of what the file says under its lock. What takes
        the last limit away takes `soft` away with it; limits that are as they were write nothing. Raises
        `InvalidRequest` (ambiguous, revoked, soft without a limit), and the others as `revoke` does.
        """

        def event(record: KeyRecord) -> bytes | None:
            if record.revoked_ms is not None:
                raise InvalidRequest("The key is revoked, so its limits no longer matter.", param="key")
            changed = change(record.limits)
            if not changed.any and record.limits.any:
                changed = NO_LIMITS
            changed = limits_of(changed)
            return None if changed == record.limits else limit_line(record.id, self._wall_ms(), changed)

        return self._append_to(id_or_name, event)

    def _append_to(self, id_or_name: str, event: Callable[[KeyRecord], bytes | None]) -> KeyRecord:
        """Write what `event` makes of a key, if anything; the key as it is then."""
        chosen: list[str] = []

        def of_key(book: KeyBook) -> bytes | None:
            record = _choose(book, id_or_name)
            chosen.append(record.id)
            return event(record)

        # Asked before `_write`, whose lock would make a key file where there is none.
        if not self._current(at_once=True).by_id:
            raise _no_such_key()
        self._write(of_key)
        return self._book.by_id[chosen[0]]

    def list(self) -> tuple[KeyRecord, ...]:
        """Every key ever made, oldest first. Raises `ConfigurationError` when the file can't be trusted."""
        return tuple(self._current(at_once=True).by_id.values())

    def keys_exist(self) -> bool:
        """Whether any key was ever made, revoked ones included. Raises `ConfigurationError` as `list` does."""
        return bool(self._current().by_id)

    def limited(self) -> bool:
        """Whether a key has, or had, limits of its own. Raises `ConfigurationError` as `list` does."""
        return self._current().limited

    def is_trusted(self) -> bool:
        """Whether the key file can be read as it should be, so that anybody is let in."""
        try:
            self._current()
        except ConfigurationError:
            return False
        return True

    def authenticate(self, secret: str | None, *, now_ms: int, allow_anonymous: bool = False) -> Caller:
        """Who holds `secret` (the bearer token, `None` when the request has none) at `now_ms` (Unix ms).

        `allow_anonymous` is for a listener on loopback: while no key was ever made, anybody is `ANONYMOUS` there,
        whatever token a client library insists on sending. Raises `Unauthenticated` and, when the key file can't be
        trusted, `KeysUnavailable`.
        """
        try:
            book = self._current()
        except ConfigurationError as problem:
            raise KeysUnavailable(
                "The router can't check API keys at the moment, so it lets nobody in. Its operator sees the cause with "
                "`coe keys list`."
            ) from problem
        if allow_anonymous and not book.by_id:
            return ANONYMOUS
        if secret is None or not secret.strip():
            raise Unauthenticated(
                "No API key was sent: put one in the header `Authorization: Bearer coe-...`.",
                code="missing_api_key",
                headers=_CHALLENGE,
            )
        digest = self._digest(secret[:SECRET_CHARACTERS_MAX])
        record = book.by_digest.get(digest) if len(secret) <= SECRET_CHARACTERS_MAX else None
        stored = _NOBODY if record is None else record.digest
        # `compare_digest` comes first so that hit and miss both run it (invariant 2).
        if not hmac.compare_digest(stored, digest) or record is None:
            raise Unauthenticated("The API key is not known to this router.", headers=_CHALLENGE)
        status = record.status(now_ms)
        if status != "active":
            # Only the holder of the real secret reads this, so it tells nothing to anybody else.
            raise Unauthenticated(f"The API key is {status}: ask for a new one.", headers=_CHALLENGE)
        held = self._callers.get(record.id)
        if held is None or held[0] is not record:  # an event of the file makes another record of the key
            held = self._callers[record.id] = (record, record.caller())
        return held[1]

    def _digest(self, secret: str) -> bytes:
        """`surrogatepass`: any text a client sends has a digest, none is an exception."""
        mac = self._mac.copy()  # unlike `hmac.digest`, it keeps hold of the interpreter
        mac.update(secret.encode("utf-8", "surrogatepass"))
        return mac.digest()

    def _write(self, event: Callable[[KeyBook], bytes | None]) -> None:
        """Append what `event` makes of the file's newest state, under its lock; nothing when that is `None`."""
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with locked(self._path) as descriptor:
                book = self._current(at_once=True)
                body = event(book)
                if body is not None:
                    append(descriptor, self._path, book, body)
                    self._current(at_once=True)
        except OSError as problem:
            raise RouterError(
                f"{self._path} can't be written ({problem.strerror}), so nothing was changed. Make the data directory "
                "writable for this user, or choose another one.",
                code="keys_unwritable",
            ) from problem

    def _current(self, *, at_once: bool = False) -> KeyBook:
        """The newest book; looks at the file when `RECHECK_S` have passed or `at_once`. Raises `ConfigurationError`."""
        with self._lock:
            tick_s = self._monotonic()
            if at_once or self._checked_s is None or tick_s - self._checked_s >= RECHECK_S:
                try:
                    self._refresh()
                except ConfigurationError as problem:
                    self._problem = str(problem)
                except OSError as problem:
                    # Forget the signature: a passing fault must not hide the change it kept us from reading.
                    self._signature = None
                    self._problem = f"{self._path} can't be read ({problem.strerror}): check its owner and mode."
                self._checked_s = tick_s
            if self._problem is not None:
                # A new exception every time: a stored one would grow by a traceback with each request.
                raise ConfigurationError(self._problem)
            return self._book

    def _refresh(self) -> None:
        try:
            found = _signature(self._path.stat())
            if found == self._signature:
                return
            with self._path.open("rb") as file:
                # The signature is taken before the bytes: what is appended in between is seen by the next check.
                found = _signature(os.fstat(file.fileno()))
                if found[2] > FILE_BYTES_MAX:
                    raise ConfigurationError(
                        f"{self._path} is larger than {FILE_BYTES_MAX} bytes: this is no key file."
                    )
                before, self._signature = self._signature, found
                # Same file, only longer: read what is new. A reload of 100,000 keys would hold up every request.
                if self._problem is None and before is not None and found[:2] == before[:2] and found[2] > before[2]:
                    file.seek(self._book.offset)
                    self._book.absorb(file.read(found[2] - self._book.offset))
                else:
                    self._replace(file.read(found[2]))
        except FileNotFoundError:
            self._signature = None
            self._replace(b"")
        self._problem = None

    def _replace(self, content: bytes) -> None:
        """Read the file anew. It may hold more than before, never less: less could be a revocation undone."""
        book = KeyBook(str(self._path), self._pepper)
        book.absorb(content)
        if not book.continues(self._book):
            raise ConfigurationError(
                f"{self._path} no longer holds the keys this process has read from it. Put the file back; if it was "
                "replaced on purpose, restart the router."
            )
        self._book = book
        self._callers = {}


def _signature(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _no_such_key() -> NotFound:
    # The argument is not repeated: people paste the secret itself here.
    return NotFound("No unrevoked key has this id or name: see `coe keys list`.", param="key")


def _choose(book: KeyBook, id_or_name: str) -> KeyRecord:
    by_id = book.by_id.get(id_or_name)
    if by_id is not None:
        return by_id
    named = [record for record in book.by_id.values() if record.name == id_or_name and record.revoked_ms is None]
    if not named:
        raise _no_such_key()
    if len(named) > 1:
        ids = ", ".join(record.id for record in named[:AMBIGUOUS_SHOWN])
        raise InvalidRequest(f"{len(named)} keys have this name; name one by its id: {ids}.", param="key")
    return named[0]
