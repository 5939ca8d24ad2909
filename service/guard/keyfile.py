"""The key file: append-only JSON lines, sealed and chained, read forwards and written under a lock.

Where on the path: below `guard.keys`; nothing else reads or writes `keys.jsonl`.

Invariants
1. A line counts when its newline is there. A torn last line is ignored by readers and cut off by the next writer: its
   event was never acknowledged.
2. Every line ends in a seal: an HMAC with the pepper over the seal before it and the line. A changed, removed, moved or
   foreign line breaks the chain, and so does another pepper. A broken chain is an error, never a shorter list of keys.
3. A line is written by one `write` at the end of the file under `flock`, and synced before anybody hears of it.
4. The file holds digests, never secrets. Messages name lines and fields, never values of a line.
5. A router that does not know limits refuses a file that has some: what carries limits is of `LIMITS_VERSION`.
   Everything else is as it ever was, so that a file without limits is read by both.
"""

from __future__ import annotations

import errno
import fcntl
import hmac
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

import orjson

from service.domain.access import Caller
from service.domain.limits import NO_LIMITS, Limits
from service.errors import ConfigurationError, RouterError
from service.guard.pepper import sync_directory

VERSION = 1
LIMITS_VERSION = 2
"""Of events that say what a key may spend and ask for."""
LINE_BYTES_MAX = 128 * 1024
"""The widest key that `guard.keys` lets through, every label full and of 4-byte characters, has 102 KB."""
FILE_BYTES_MAX = 256 * 1024 * 1024
"""About half a million keys: more is not a key file."""
LOCK_WAIT_S = 10.0
"""A writer holds the lock for one fsync, so ten seconds is hundreds of writers."""
LOCK_POLL_S = 0.01
REPLACED_ATTEMPTS = 5
"""How often a writer follows a file that is being replaced under it."""
SEAL_CHARACTERS = 32
"""128 bits: forging one line needs the pepper or 2^128 tries."""
DIGEST_BYTES = 32

_KINDS = (("create", VERSION), ("create", LIMITS_VERSION), ("limit", LIMITS_VERSION), ("revoke", VERSION))
_SEAL_FIELD = b',"seal":"'
_SEAL_END = b'"}'
_SEAL_BYTES = len(_SEAL_FIELD) + SEAL_CHARACTERS + len(_SEAL_END)


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """One virtual key as the file knows it. Times are Unix milliseconds; `hint` is the first characters of the secret.

    `digest` is the HMAC-SHA256 of the secret: useless without the pepper, and still kept out of `repr`.
    """

    id: str
    name: str
    digest: bytes = field(repr=False)
    hint: str
    tags: tuple[str, ...]
    models: tuple[str, ...]
    policies: tuple[str, ...]
    created_ms: int
    expires_ms: int | None
    note: str
    revoked_ms: int | None = None
    limits: Limits = NO_LIMITS

    def status(self, now_ms: int) -> str:
        """`active`, `expired` or `revoked` at an instant (Unix ms); `expires_ms` is the first instant of `expired`."""
        if self.revoked_ms is not None:
            return "revoked"
        if self.expires_ms is not None and now_ms >= self.expires_ms:
            return "expired"
        return "active"

    def caller(self) -> Caller:
        """Who a request with this key comes from."""
        tags, models, policies = frozenset(self.tags), frozenset(self.models), frozenset(self.policies)
        return Caller(self.id, self.name, tags, models, policies, self.limits)


def create_line(record: KeyRecord) -> bytes:
    """The body (unsealed JSON) of the event that creates a key."""
    limited = record.limits.any
    event = {
        "v": LIMITS_VERSION if limited else VERSION,
        "event": "create",
        "id": record.id,
        "name": record.name,
        "digest": record.digest.hex(),
        "hint": record.hint,
        "tags": record.tags,
        "models": record.models,
        "policies": record.policies,
        "created_ms": record.created_ms,
        "expires_ms": record.expires_ms,
        "note": record.note,
    }
    return orjson.dumps(event | {"limits": asdict(record.limits)} if limited else event)


def limit_line(key_id: str, at_ms: int, limits: Limits) -> bytes:
    """The body (unsealed JSON) of the event that gives a key other limits: all of them, not what changed."""
    event = {"v": LIMITS_VERSION, "event": "limit", "id": key_id, "at_ms": at_ms, "limits": asdict(limits)}
    return orjson.dumps(event)


def revoke_line(key_id: str, at_ms: int) -> bytes:
    """The body (unsealed JSON) of the event that revokes a key."""
    return orjson.dumps({"v": VERSION, "event": "revoke", "id": key_id, "at_ms": at_ms})


class KeyBook:
    """What a key file says, built by reading it forwards: `absorb` may be called again with what was appended since.

    `offset` is the byte after the last whole line read, `lines` their number, `seal` the last one's seal.
    """

    def __init__(self, name: str, pepper: bytes) -> None:
        """`name` is what error messages call the file."""
        self.name = name
        self.by_id: dict[str, KeyRecord] = {}
        self.by_digest: dict[bytes, KeyRecord] = {}
        self.seals: list[bytes] = []
        self.limited = False
        self.offset = 0
        self._pepper = pepper

    @property
    def seal(self) -> bytes:
        """The seal that the next line continues; empty at the start of a file."""
        return self.seals[-1] if self.seals else b""

    def continues(self, older: KeyBook) -> bool:
        """Whether this book holds everything an older reading held, in the same order."""
        known = len(older.seals)
        return known == 0 or (len(self.seals) >= known and self.seals[known - 1] == older.seals[-1])

    def sealed(self, body: bytes) -> bytes:
        """The whole line for a body that is to come next, with seal and newline."""
        return body[:-1] + _SEAL_FIELD + self._seal_of(self.seal, body) + _SEAL_END + b"\n"

    def absorb(self, content: bytes) -> None:
        """Read bytes that start at `offset`. Whole lines are applied, a torn last one is left for later.

        Raises `ConfigurationError` at the first line that is not a sealed event; the lines before it stay applied.
        """
        start = 0
        while (end := content.find(b"\n", start)) >= 0:
            self._apply(content[start:end])
            self.offset += end + 1 - start
            start = end + 1
        if len(content) - start > LINE_BYTES_MAX:
            raise self._broken("is longer than any key event")

    def _seal_of(self, previous: bytes, body: bytes) -> bytes:
        sealed = b"line:" + previous + b":" + body
        return hmac.digest(self._pepper, sealed, "sha256").hex()[:SEAL_CHARACTERS].encode()

    def _broken(self, what: str) -> ConfigurationError:
        return ConfigurationError(
            f"{self.name} line {len(self.seals) + 1} {what}. Until it is whole again no key is accepted: restore the "
            "file from a backup, or move it away and create new keys."
        )

    def _apply(self, line: bytes) -> None:
        body, tail = line[:-_SEAL_BYTES] + b"}", line[-_SEAL_BYTES:]
        if len(line) > LINE_BYTES_MAX or not tail.startswith(_SEAL_FIELD) or not tail.endswith(_SEAL_END):
            raise self._broken("is not a sealed key event")
        seal = tail[len(_SEAL_FIELD) : -len(_SEAL_END)]
        if not hmac.compare_digest(seal, self._seal_of(self.seal, body)):
            raise self._broken(
                "does not carry the right seal: the pepper is not the one the keys were created with (do server "
                "and command line get the same COE_KEY_PEPPER?), or a line was changed or removed"
            )
        try:
            event = orjson.loads(body)
        except orjson.JSONDecodeError:
            raise self._broken("is not JSON") from None
        kind = (event.get("event"), event.get("v"))
        if kind not in _KINDS:
            raise self._broken("is of a kind this version does not know: it was written by a newer one")
        try:
            if kind[0] == "create":
                self._create(_record(event))
            elif kind[0] == "limit":
                _integer(event["at_ms"])
                record = self._known(_text(event["id"]), "limits")
                self._put(replace(record, limits=_limits(event["limits"])))
            else:
                self._revoke(_text(event["id"]), _integer(event["at_ms"]))
        except (KeyError, TypeError, ValueError):
            raise self._broken("lacks a field or has one of the wrong type") from None
        self.seals.append(seal)

    def _create(self, record: KeyRecord) -> None:
        if record.id in self.by_id or record.digest in self.by_digest:
            raise self._broken("creates a key that already exists")
        self._put(record)

    def _revoke(self, key_id: str, at_ms: int) -> None:
        record = self._known(key_id, "revokes")
        if record.revoked_ms is None:
            self._put(replace(record, revoked_ms=at_ms))

    def _known(self, key_id: str, verb: str) -> KeyRecord:
        record = self.by_id.get(key_id)
        if record is None:
            raise self._broken(f"{verb} a key that was never created")
        return record

    def _put(self, record: KeyRecord) -> None:
        self.limited |= record.limits.any
        self.by_id[record.id] = record
        self.by_digest[record.digest] = record


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError
    return tuple(_text(item) for item in value)


def _integer(value: object) -> int:
    if type(value) is not int:
        raise TypeError
    return value


_LIMIT_FIELDS = tuple(one.name for one in fields(Limits))


def _limits(told: object) -> Limits:
    """Limits with every field there and no other: what this version does not know may be a limit."""
    if not isinstance(told, dict) or set(told) != set(_LIMIT_FIELDS) or type(told["soft"]) is not bool:
        raise TypeError
    return Limits(**told)


def _record(event: dict[str, object]) -> KeyRecord:
    """The key of a create event; KeyError, TypeError or ValueError when a field is missing or wrong."""
    digest = bytes.fromhex(_text(event["digest"]))
    if len(digest) != DIGEST_BYTES:
        raise ValueError
    expires = event["expires_ms"]
    return KeyRecord(
        id=_text(event["id"]),
        name=_text(event["name"]),
        digest=digest,
        hint=_text(event["hint"]),
        tags=_texts(event["tags"]),
        models=_texts(event["models"]),
        policies=_texts(event["policies"]),
        created_ms=_integer(event["created_ms"]),
        expires_ms=None if expires is None else _integer(expires),
        note=_text(event["note"]),
        limits=_limits(event["limits"]) if event["v"] == LIMITS_VERSION else NO_LIMITS,
    )


@contextmanager
def locked(path: Path) -> Iterator[int]:
    """A descriptor of the key file (made when missing, mode 0600) that is locked against every other writer.

    Raises `RouterError` (code `keys_busy`) when the lock can't be had within `LOCK_WAIT_S`, and `OSError`.
    """
    deadline = time.monotonic() + LOCK_WAIT_S
    for _ in range(REPLACED_ATTEMPTS):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            _lock(descriptor, path, deadline)
            # A file that was replaced while we waited is locked in vain: the name leads to another one now.
            if _is_at(descriptor, path):
                yield descriptor
                return
        finally:
            os.close(descriptor)
    raise _busy(path)


def append(descriptor: int, path: Path, book: KeyBook, body: bytes) -> None:
    """Seal `body`, write it behind what `book` has read and sync it. The descriptor comes from `locked`.

    Raises `OSError`; the file is then as long as before, or ends in a torn line that nobody reads.
    """
    line = book.sealed(body)
    if book.offset + len(line) > FILE_BYTES_MAX:
        raise OSError(errno.EFBIG, "the key file has reached its size limit")
    status = os.fstat(descriptor)
    if status.st_mode & 0o077:
        os.fchmod(descriptor, 0o600)
    if status.st_size > book.offset:
        os.ftruncate(descriptor, book.offset)
    try:
        if os.write(descriptor, line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, book.offset)
        raise
    if book.offset == 0:
        sync_directory(path.parent)


def _lock(descriptor: int, path: Path, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise _busy(path) from None
            time.sleep(LOCK_POLL_S)
        else:
            return


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _busy(path: Path) -> RouterError:
    return RouterError(
        f"{path} is being written by another process; nothing was changed. Try again in a moment.", code="keys_busy"
    )
