"""What the fields of a key may hold: checked before a key is written down, each refused with its name.

Where on the path: below `guard.keys`, which makes keys.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime

from service.domain.limits import NO_LIMITS, Limits
from service.errors import InvalidRequest

SECRET_PREFIX = "coe-"  # noqa: S105  # the public part of every key, so that secret scanners can find leaked ones
NAME_CHARACTERS_MAX = 100
LABEL_CHARACTERS_MAX = 128
LABELS_MAX = 64
NOTE_CHARACTERS_MAX = 500

_LABEL = re.compile(r"[^\s,]+")


def plain(param: str, text: str, characters_max: int) -> str:
    """`text` unchanged, when it is short and can be printed: control characters would rewrite a terminal or a log."""
    if len(text) > characters_max or not text.isprintable():
        raise InvalidRequest(
            f"{param} must be at most {characters_max} printable characters without line breaks.", param=param
        )
    return text


def name_of(name: str) -> str:
    """A name that can't be taken for a secret or an id."""
    if not name.strip() or name != name.strip():
        raise InvalidRequest("name must not be empty or begin or end with a blank.", param="name")
    if name.startswith((SECRET_PREFIX, "key_")):
        raise InvalidRequest("name must not look like a secret (coe-...) or an id (key_...).", param="name")
    return plain("name", name, NAME_CHARACTERS_MAX)


def labels_of(param: str, labels: Iterable[str]) -> tuple[str, ...]:
    """Distinct labels in the order given."""
    found = tuple(dict.fromkeys(plain(param, label, LABEL_CHARACTERS_MAX) for label in labels))
    if len(found) > LABELS_MAX or not all(_LABEL.fullmatch(label) for label in found):
        raise InvalidRequest(f"{param} must be at most {LABELS_MAX} words without blanks or commas.", param=param)
    return found


def check_model(model: str) -> None:
    """A limit is matched against registry models; anything else would lock the key out without a word."""
    if model == "auto" or model.startswith(("auto:", "plan:")) or "/" in model:
        raise InvalidRequest(
            "models takes plain registry model names, not auto, plan:... or provider/model: see `coe check`.",
            param="models",
        )


def expiry_of(expires_at: datetime | None, now_ms: int) -> int | None:
    """Unix ms of an aware instant to come."""
    if expires_at is None:
        return None
    if expires_at.tzinfo is None:
        raise InvalidRequest("expires_at needs a time zone.", param="expires_at")
    expires_ms = int(expires_at.timestamp() * 1000)
    if expires_ms <= now_ms:
        raise InvalidRequest("expires_at is in the past: give an instant to come.", param="expires_at")
    return expires_ms


def limits_of(limits: Limits) -> Limits:
    """Limits that mean something: without any there is nothing to be soft about."""
    if limits.soft and not limits.any:
        raise InvalidRequest("soft needs a limit: without one there is nothing that would refuse.", param="soft")
    return limits if limits.any else NO_LIMITS
