"""How OpenAI-like vendors say no: with a status and a body, with a 200 and a body, or in the middle of a stream.

Where on the path: `protocols.openai_chat` asks here what an error means. Pure.

Invariants
1. A vendor's words reach the caller only when the fault is the caller's; never those about our account or key.
2. What does reach the caller is bounded, printable and free of our keys and header values.
3. `cause` is one of a few stable words, whatever the vendor wrote.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from service.domain.catalog import Deployment
from service.errors import Replied

VENDOR_MESSAGE_CHARACTERS_MAX = 1_000
"""Of a vendor's message; real ones are a sentence."""

VENDOR_CODE_CHARACTERS_MAX = 100
"""Of a vendor's code or param."""

RETRY_AFTER_S_MAX = 3_600.0
"""A vendor that asks for more is asking us to go elsewhere."""

SECRET_CHARACTERS_MIN = 8
"""Header values shorter than this are no secrets, and would tear holes into ordinary words."""

CALLER_STATUSES = frozenset({400, 409, 413, 422})
"""The fault may be the caller's: the vendor's words are worth more than another attempt."""

_CAUSES = {
    401: "auth_failed",
    402: "payment_required",
    403: "auth_failed",
    404: "model_not_found",
    408: "timeout_upstream",
    429: "rate_limited",
    529: "overloaded",
}
_CONTEXT_CODES = frozenset({"context_length_exceeded", "string_above_max_length", "1261"})  # 1261: Zhipu
_CONTEXT_WORDS = ("context length", "maximum context", "context window", "prompt is too long")
_AUTH_CODES = frozenset({"invalid_api_key", "api_key_invalid", "authentication_error", "invalid_iam_token"})
_AUTH_WORDS = ("api key", "api_key", "apikey", "access token")
_QUOTA_CODES = frozenset({"insufficient_quota"})

# Codes inside a 200, where no status helps: MiniMax (1002 to 2049), Baidu (18, 3365xx), iFlytek (five digits).
_CODES_IN_200 = {
    "1002": "rate_limited",
    "1004": "auth_failed",
    "1008": "payment_required",
    "1039": "rate_limited",
    "2049": "auth_failed",
    "18": "rate_limited",
    "336501": "rate_limited",
    "336502": "rate_limited",
    "10007": "rate_limited",
    "10907": "context_length",
    "11200": "auth_failed",
    "11201": "rate_limited",
    "11202": "rate_limited",
    "11203": "rate_limited",
}
_CONTENT_CODES = frozenset(
    {"content_filter", "content_policy_violation", "data_inspection_failed", "1026", "1027", "1301"}
)
"""Refusals of what was asked or said, under a 200: Azure, OpenAI, Alibaba, MiniMax (1026, 1027), Zhipu (1301)."""

_FINE = frozenset({"", "0", "200", "none", "ok", "success"})


@dataclass(frozen=True, slots=True)
class VendorError:
    """What an error body says, in the vendor's own words. Unsafe until `safe` has seen it."""

    message: str | None = None
    code: str | None = None
    kind: str | None = None
    param: str | None = None


def refusal(status: int, headers: Mapping[str, str], body: bytes, deployment: Deployment) -> Replied:
    """The error for an answer whose status is not 2xx."""
    try:
        said = vendor_error(orjson.loads(body))
    except orjson.JSONDecodeError:
        said = VendorError()
    cause = _cause(status, said)
    if status in CALLER_STATUSES and cause in ("caller_error", "context_length"):
        return Replied(
            safe(said.message, deployment, VENDOR_MESSAGE_CHARACTERS_MAX)
            or f"the vendor refused the request with status {status}",
            cause=cause,
            upstream_status=status,
            code=safe(said.code, deployment, VENDOR_CODE_CHARACTERS_MAX) or "upstream_refused",
            param=safe(said.param, deployment, VENDOR_CODE_CHARACTERS_MAX),
            passthrough=True,
        )
    return Replied(
        f"{deployment.id} answered with status {status}",
        cause=cause,
        upstream_status=status,
        retry_after_s=_retry_after(headers.get("retry-after")),
        code="upstream_auth_failed" if cause == "auth_failed" else None,
    )


def error_in_200(parsed: Mapping[str, Any], deployment: Deployment) -> Replied | None:
    """The error that a body or event with status 200 carries, if any."""
    choices = parsed.get("choices")
    if not parsed.get("error"):
        failed_choice = _failed_choice(choices)
        if failed_choice is not None:
            parsed = failed_choice
        elif (choices and "error_in_200" not in deployment.provider.quirks) or _is_fine(parsed):
            return None
    said = vendor_error(parsed)
    code = (said.code or "").lower()
    if code in _CONTENT_CODES:
        return Replied(
            safe(said.message, deployment, VENDOR_MESSAGE_CHARACTERS_MAX) or "the vendor refused the content",
            cause="content_policy",
            upstream_status=400,  # what it means, and what the caller is told
            code=safe(said.code, deployment, VENDOR_CODE_CHARACTERS_MAX),
            passthrough=True,
        )
    if code.isdecimal() and len(code) == 3 and code[0] in "45":
        cause = _cause(int(code), said)  # OpenRouter puts the status it would have sent
    elif "rate" in code and "limit" in code:
        cause = "rate_limited"
    elif code in _CODES_IN_200:
        cause = _CODES_IN_200[code]
    else:
        cause = _cause(400, said)
        cause = "error_in_200" if cause == "caller_error" else cause
    return Replied(
        f"{deployment.id} answered 200 with an error",
        cause=cause,
        upstream_status=200,
        code="upstream_auth_failed" if cause == "auth_failed" else None,
    )


def _failed_choice(choices: object) -> Mapping[str, Any] | None:
    """A choice that ended in an error instead of an answer: OpenRouter's way when the vendor behind it fails."""
    if isinstance(choices, list):
        for choice in choices:
            if isinstance(choice, dict) and (choice.get("finish_reason") == "error" or choice.get("error")):
                return choice
    return None


def _is_fine(parsed: Mapping[str, Any]) -> bool:
    base = parsed.get("base_resp")
    codes = (
        parsed.get("code"),
        parsed.get("error_code"),
        base.get("status_code") if isinstance(base, dict) else None,
    )
    return all(code is None or str(code).lower() in _FINE for code in codes)


def _cause(status: int, said: VendorError) -> str:
    """A stable word for an error."""
    code, message = (said.code or said.kind or "").lower(), (said.message or "").lower()
    if status in CALLER_STATUSES:
        if code in _CONTEXT_CODES or any(words in message for words in _CONTEXT_WORDS):
            return "context_length"
        # Google and xAI answer 400 to a wrong key: our fault, and nothing to tell the caller about.
        if code in _AUTH_CODES or any(words in message for words in _AUTH_WORDS):
            return "auth_failed"
        return "caller_error"
    if status == 429 and code in _QUOTA_CODES:
        return "payment_required"
    return _CAUSES.get(status, f"http_{status}")


def vendor_error(parsed: object) -> VendorError:
    """Read an error body in any of the usual shapes."""
    if isinstance(parsed, list) and parsed:
        parsed = parsed[0]  # Google wraps it in a list
    if not isinstance(parsed, dict):
        return VendorError()
    error = parsed.get("error") or parsed.get("base_resp") or parsed
    if isinstance(error, str):
        return VendorError(message=error)
    if not isinstance(error, dict):
        return VendorError()
    code = _first(error, ("code", "error_code", "status_code"))
    message = _first(error, ("message", "msg", "error_msg", "status_msg", "detail"))
    kind, param = error.get("type"), error.get("param")
    return VendorError(
        message if isinstance(message, str) else None,
        str(code) if isinstance(code, str | int) else None,
        kind if isinstance(kind, str) else None,
        param if isinstance(param, str) else None,
    )


def _first(error: Mapping[str, Any], names: Iterable[str]) -> object:
    return next((error[name] for name in names if error.get(name) not in (None, "")), None)


def safe(text: str | None, deployment: Deployment, characters_max: int) -> str | None:
    """A vendor's text fit for the caller: without our secrets, printable, bounded. `None` when nothing is left."""
    if not text:
        return None
    provider = deployment.provider
    secrets = [key for key in provider.api_keys if key]
    secrets += [value for value in provider.headers.values() if len(value) >= SECRET_CHARACTERS_MIN]
    # Before the cut: a key across the boundary would else leave its first half.
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "[key]")
    printable = "".join(character if character.isprintable() else " " for character in text[:characters_max])
    return printable.strip() or None


def _retry_after(value: str | None) -> float | None:
    """Seconds from a Retry-After header, capped; dates and nonsense are ignored."""
    try:
        seconds = float(value) if value is not None else None
    except ValueError:
        return None
    # `inf` is capped, `nan` compares to nothing and is ignored.
    return min(seconds, RETRY_AFTER_S_MAX) if seconds is not None and seconds >= 0 else None
