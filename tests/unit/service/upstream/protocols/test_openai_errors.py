"""What a vendor's error means, and what of it the caller may see."""

import json

import pytest

from service.errors import Billed
from service.upstream.protocols.openai_errors import (
    RETRY_AFTER_S_MAX,
    VENDOR_MESSAGE_CHARACTERS_MAX,
    error_in_200,
    refusal,
    safe,
    vendor_error,
)

KEY = "sk-vendor-secret-0123456789"


def said(message="Something is wrong.", **more):
    return json.dumps({"error": {"message": message, "type": "t", "param": None, "code": None, **more}}).encode()


@pytest.mark.parametrize(
    ("status", "cause"),
    [
        (400, "caller_error"), (409, "caller_error"), (413, "caller_error"), (422, "caller_error"),
        (401, "auth_failed"), (402, "payment_required"), (403, "auth_failed"), (404, "model_not_found"),
        (408, "timeout_upstream"), (429, "rate_limited"), (500, "http_500"), (502, "http_502"), (503, "http_503"),
        (529, "overloaded"), (302, "http_302"), (418, "http_418"),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "body", [said(), b"", b"<html>", b"[]", b"null", b'"x"', b'{"error":7}', b'{"error":{"code":{}}}']
)
def test_statuses(deployment, status, cause, body):
    """A stable cause for each; only the caller's own faults are passed through; nothing is billed."""
    error = refusal(status, {}, body, deployment())
    assert (error.cause, error.upstream_status) == (cause, status)
    assert error.passthrough is (cause == "caller_error")
    assert error.billed is Billed.NO
    if error.passthrough:
        assert (error.status, error.type) == (status, "invalid_request_error")
    else:
        assert error.status == 502
        assert "Something" not in error.message


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        (said(code="context_length_exceeded"), "context_length"),
        (said("This model's maximum context length is 8192 tokens."), "context_length"),
        (said(code="1261"), "context_length"),
        (said(code=1261), "context_length"),
        (said(code="content_filter"), "caller_error"),
        (
            b'{"object":"error","message":"prompt is too long: 9 tokens","type":"BadRequestError","code":400}',
            "context_length",
        ),
        (said("Incorrect API key provided: sk-1***9."), "auth_failed"),
        (
            b'[{"error":{"code":400,"message":"API key not valid. Please pass one.","status":"INVALID_ARGUMENT"}}]',
            "auth_failed",
        ),
        (b'{"type":"error","error":{"type":"authentication_error","message":"no"}}', "auth_failed"),
    ],
)
def test_a_400_is_not_always_the_callers(deployment, body, cause):
    """A context too long may fit elsewhere; a wrong key is ours, whatever the status, and its text stays here."""
    error = refusal(400, {}, body, deployment())
    assert error.cause == cause
    assert error.passthrough is (cause != "auth_failed")
    if cause == "auth_failed":
        assert "key" not in error.message.lower()
        assert (error.status, error.code) == (502, "upstream_auth_failed")


def test_a_spent_account_is_no_rate_limit(deployment):
    """429 with `insufficient_quota` does not end by waiting."""
    assert refusal(429, {}, said(code="insufficient_quota"), deployment()).cause == "payment_required"


@pytest.mark.parametrize("status", [401, 403])
def test_words_about_our_account_stay_here(deployment, status):
    """Not even a harmless looking part of them."""
    error = refusal(status, {}, said(f"Key {KEY} of org acme-corp is not allowed", code="acme_code"), deployment())
    assert "acme-corp" not in json.dumps(error.body())
    assert KEY not in json.dumps(error.body())
    assert error.code == "upstream_auth_failed"


def test_no_secret_is_echoed(deployment):
    """Keys and header values are cut out of message, code and param; also a key across the length limit."""
    one = deployment(headers={"x-account": "account-4711-secret", "x-v": "2"}, keys=(KEY, KEY + "-longer"))
    text = f"bad {KEY}-longer and {KEY} for account-4711-secret in version 2"
    error = refusal(400, {}, said(text, code=KEY, param=KEY), one)
    shown = json.dumps(error.body())
    assert KEY not in shown
    assert "4711" not in shown
    assert "-longer" not in shown
    assert error.message == "bad [key] and [key] for [key] in version 2"
    long = "x" * (VENDOR_MESSAGE_CHARACTERS_MAX - 10) + KEY
    assert KEY[:8] not in (safe(long, one, VENDOR_MESSAGE_CHARACTERS_MAX) or "")


def test_texts_are_bounded_and_printable(deployment):
    """Control characters become blanks, lengths are limited, nothing is left of nothing."""
    error = refusal(400, {}, said("a\r\nb\x1b[31m\u2028" + "c" * 10_000, code="d" * 500), deployment())
    assert error.message.startswith("a  b [31m ccc")
    assert len(error.message) == VENDOR_MESSAGE_CHARACTERS_MAX
    assert len(error.code) == 100
    assert safe("\r\n", deployment(), 9) is None


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(None, None), ("7", 7), ("0", 0), ("1.5", 1.5), ("99999999", RETRY_AFTER_S_MAX), ("inf", RETRY_AFTER_S_MAX),
     ("-1", None), ("nan", None), ("soon", None), ("Wed, 21 Oct 2026 07:28:00 GMT", None), ("", None)],
)  # fmt: skip
def test_retry_after(deployment, value, seconds):
    """Seconds, capped; anything else is no answer."""
    headers = {} if value is None else {"retry-after": value}
    assert refusal(429, headers, b"", deployment()).retry_after_s == seconds


IN_200 = [
    ("Baidu, code and message", {"code": "rate_limit_exceeded", "message": "slow down", "type": "x"}, "rate_limited"),
    ("Baidu, tokens a minute", {"error": {"code": "tpm_rate_limit_exceeded", "message": "m", "type": "t"}, "id": "as-1"}, "rate_limited"),
    ("Baidu, first version", {"error_code": 336501, "error_msg": "Rpm rate limit reached", "id": "x"}, "rate_limited"),
    ("Baidu, token", {"code": "invalid_iam_token", "message": "m"}, "auth_failed"),
    ("MiniMax, rate", {"base_resp": {"status_code": 1002, "status_msg": "rate limit"}}, "rate_limited"),
    ("MiniMax, rate, empty choices", {"choices": None, "usage": {"total_tokens": 0}, "base_resp": {"status_code": 1039, "status_msg": "m"}}, "rate_limited"),
    ("MiniMax, balance", {"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}, "payment_required"),
    ("MiniMax, key", {"base_resp": {"status_code": 2049, "status_msg": "invalid api key"}}, "auth_failed"),
    ("MiniMax, other", {"base_resp": {"status_code": 1000, "status_msg": "unknown"}}, "error_in_200"),
    ("iFlytek, audit", {"code": 10013, "message": "input audit", "sid": "cht000"}, "error_in_200"),
    ("iFlytek, QPS", {"code": 11202, "message": "limit", "sid": "x"}, "rate_limited"),
    ("iFlytek, licence", {"code": "11200", "message": "no licence"}, "auth_failed"),
    ("iFlytek, too long", {"code": 10907, "message": "tokens"}, "context_length"),
    ("OpenRouter, status as code", {"error": {"code": 429, "message": "rate", "metadata": {}}, "user_id": "u"}, "rate_limited"),
    ("OpenRouter, 502", {"error": {"code": 502, "message": "bad gateway"}}, "http_502"),
    ("OpenRouter, 402", {"error": {"code": 402, "message": "credits"}}, "payment_required"),
    ("OpenRouter, context", {"error": {"code": 400, "message": "maximum context length is 9"}}, "context_length"),
    ("OpenRouter, chunk", {"error": {"code": 503, "message": "m"}, "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}]}, "http_503"),
    ("OpenRouter, choice", {"choices": [{"index": 0, "finish_reason": "error", "error": {"code": 504, "message": "m"}, "message": {"content": ""}}]}, "http_504"),
    ("a choice without reasons", {"choices": [{"finish_reason": "error", "delta": {}}]}, "error_in_200"),
    ("a string", {"error": "something"}, "error_in_200"),
    ("a code alone", {"code": 1305}, "error_in_200"),
]  # fmt: skip


@pytest.mark.parametrize(("parsed", "cause"), [row[1:] for row in IN_200], ids=[row[0] for row in IN_200])
@pytest.mark.parametrize("quirks", [(), ("error_in_200",)])
def test_errors_inside_a_200(deployment, parsed, cause, quirks):
    """Found without the quirk too: nothing here is an answer. Never the vendor's words."""
    error = error_in_200(parsed, deployment(*quirks))
    assert error is not None
    assert (error.cause, error.upstream_status, error.passthrough) == (cause, 200, False)
    assert error.message == "acme/model-1 answered 200 with an error"


CHOICES = [{"index": 0, "message": {"content": "hi"}, "finish_reason": "stop"}]


@pytest.mark.parametrize(
    "parsed",
    [
        {"choices": CHOICES}, {"choices": CHOICES, "code": 0, "message": "Success", "sid": "x"},
        {"choices": CHOICES, "error": None}, {"choices": CHOICES, "base_resp": {"status_code": 0, "status_msg": ""}},
        {"choices": [], "usage": {"prompt_tokens": 1}}, {"choices": CHOICES, "code": "0"}, {"code": 200, "choices": []},
        {"choices": CHOICES, "error": {}}, {},
    ],
)  # fmt: skip
@pytest.mark.parametrize("quirks", [(), ("error_in_200",)])
def test_answers_are_no_errors(deployment, parsed, quirks):
    """A zero code, a null error, a usage chunk: nothing is wrong."""
    assert error_in_200(parsed, deployment(*quirks)) is None


def test_a_code_beside_choices_needs_the_quirk(deployment):
    """For most vendors `code` beside an answer means nothing; for some it is the error of a cut answer."""
    parsed = {"choices": CHOICES, "code": 10014, "message": "output audit"}
    assert error_in_200(parsed, deployment()) is None
    assert error_in_200(parsed, deployment("error_in_200")).cause == "error_in_200"


@pytest.mark.parametrize(
    ("parsed", "message"),
    [
        ({"error": {"message": "m"}}, "m"), ({"error": "m"}, "m"), ({"message": "m"}, "m"), ({"msg": "m"}, "m"),
        ([{"error": {"message": "m"}}], "m"), ({"error_msg": "m"}, "m"), ({"detail": "m"}, "m"),
        ({"base_resp": {"status_msg": "m"}}, "m"), ({"message": {"detail": []}}, None), (None, None), ([], None), (3, None),
    ],
)  # fmt: skip
def test_shapes_of_error_bodies(parsed, message):
    """However it is wrapped, the message is found; what is no text is none."""
    assert vendor_error(parsed).message == message


@pytest.mark.parametrize(
    "body",
    [
        {"base_resp": {"status_code": 1026, "status_msg": "input new_sensitive"}},
        {"error": {"code": "data_inspection_failed", "message": "Input data may contain inappropriate content."}},
        {"error": {"code": "1301", "message": "unsafe"}},
    ],
)
def test_a_content_refusal_under_a_200_is_the_callers(deployment, body):
    """Passed on as a 400 with the vendor's words: nobody else would say otherwise."""
    found = error_in_200(body, deployment())
    assert (found.cause, found.status, found.passthrough) == ("content_policy", 400, True)
    assert found.message in {"input new_sensitive", "Input data may contain inappropriate content.", "unsafe"}
