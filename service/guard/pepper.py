"""The pepper: the one secret that turns a stolen key file into noise, and the rule for what is too weak to be a secret.

Where on the path: read once at start by `app` and by `coe keys`; `guard.keys` digests every key with it.

Invariants
1. A pepper has at least `PEPPER_BYTES_MIN` bytes and is not something a person would type as a placeholder.
2. An empty `COE_KEY_PEPPER` is a mistake and is refused; only an unset one falls back to `<data_dir>/pepper`.
3. The pepper file appears whole or not at all, mode 0600, and is never replaced by this program.
4. No message of this module holds any part of a secret.
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from service.errors import ConfigurationError

PEPPER_BYTES_MIN = 32
"""256 bits, the size of the digest it keys: guessing the pepper is no easier than guessing a key."""
PEPPER_FILE_BYTES_MAX = 4096
"""A pepper file is one line; more than this is some other file."""
DISTINCT_CHARACTERS_MIN = 8
"""32 random hex digits, the poorest thing accepted, have fewer distinct ones less than once in ten million draws."""
PERIOD_CHARACTERS_MAX = 16
"""A secret that repeats a piece this short has only the strength of the piece."""
PLACEHOLDERS = (
    "changeme",
    "change-me",
    "change_me",
    "changethis",
    "replaceme",
    "replace-me",
    "sk-1234",
    "password",
    "passw0rd",
    "placeholder",
    "example",
    "default",
    "insecure",
    "secret",
    "pepper",
    "qwerty",
    "letmein",
    "12345678",
    "abcdefgh",
)
"""What documentation and people put where a secret belongs. At least six characters each: a random base64 secret of 43
characters then holds one by chance less than once in a million."""

PEPPER_FILE = "pepper"
KEYS_FILE = "keys.jsonl"

HOW_TO_MAKE_ONE = "Make one with: python3 -c 'import secrets; print(secrets.token_hex(32))'"


def weakness(secret: str) -> str | None:
    """Why a configured secret (pepper, admin key) is too weak, without repeating it; `None` when it will do."""
    if not secret:
        return "it is empty"
    if len(secret.encode("utf-8", "surrogatepass")) < PEPPER_BYTES_MIN:
        return f"it is shorter than {PEPPER_BYTES_MIN} bytes"
    folded = secret.casefold()
    if any(word in folded for word in PLACEHOLDERS):
        return "it contains a well-known placeholder"
    periodic = any(secret[size:] == secret[:-size] for size in range(1, PERIOD_CHARACTERS_MAX + 1))
    if periodic or len(set(secret)) < DISTINCT_CHARACTERS_MIN:
        return "it repeats itself"
    return None


def load_pepper(data_dir: Path, environ_value: str | None) -> bytes:
    """The pepper: from the value of `COE_KEY_PEPPER`, or else from `<data_dir>/pepper`, made on first use.

    `environ_value` is `None` when the variable is unset. Surrounding white space is dropped: files and shells add it.
    Raises `ConfigurationError` when the value is weak, the file is unsafe or damaged, or keys exist and their pepper is
    gone; `OSError` when the file can't be written or read.
    """
    if environ_value is not None:
        pepper = environ_value.strip()
        problem = weakness(pepper)
        if problem is not None:
            raise ConfigurationError(
                f"COE_KEY_PEPPER can't be used: {problem}. {HOW_TO_MAKE_ONE}, or unset it "
                "to use one kept in the data directory."
            )
        return pepper.encode("utf-8", "surrogatepass")
    path = data_dir / PEPPER_FILE
    # Asked before the pepper is looked for: a process that starts beside us makes the pepper first and keys after it,
    # so keys without a pepper, seen in this order, are a loss and never a race.
    keys_exist = _has_content(data_dir / KEYS_FILE)
    try:
        return _read(path)
    except FileNotFoundError:
        pass
    if keys_exist:
        raise ConfigurationError(
            f"{data_dir / KEYS_FILE} holds keys, but {path} is missing and COE_KEY_PEPPER is not set: no key can be "
            "checked. Set COE_KEY_PEPPER to the value the keys were created with, or restore the file from a backup."
        )
    return _create(path)


def _has_content(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if not stat.S_ISREG(mode):
            raise ConfigurationError(f"{path} is not a regular file: remove it, or set COE_KEY_PEPPER.")
        if mode & 0o077:
            raise ConfigurationError(f"{path} can be read or written by other users: run `chmod 600 {path}`.")
        content = file.read(PEPPER_FILE_BYTES_MAX + 1)
    pepper = content.strip()
    if len(content) > PEPPER_FILE_BYTES_MAX or weakness(pepper.decode("utf-8", "replace")) is not None:
        raise ConfigurationError(
            f"{path} does not hold a pepper (one line, at least {PEPPER_BYTES_MIN} random bytes): restore it from a "
            "backup. If no key was created yet, delete it and a new one is made."
        )
    return pepper


def _create(path: Path) -> bytes:
    """Write a new pepper beside its place and link it there: `link` fails when another process was first."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{PEPPER_FILE}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_hex(32).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return _read(path)
    finally:
        draft.unlink()
    sync_directory(path.parent)
    return _read(path)


def sync_directory(directory: Path) -> None:
    """Make a new name in a directory survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
