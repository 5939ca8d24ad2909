"""The error tree: who must act, which status, whether money may have been spent.

    CoeError
    |- CallerError                 the caller must change the request
    |  |- InvalidRequest      400  shape or value of the body is wrong; `param` says where
    |  |- Unauthenticated     401  no key, or a wrong or revoked one
    |  |- Forbidden           403  the key may not do this
    |  |- NotFound            404  unknown model, decision or url
    |  |- MethodNotAllowed    405  the url exists, the method does not
    |  |- BodyTooLarge        413  the body is over the limit
    |  |- UnsupportedMedia    415  not JSON, or compressed
    |  |- NoCandidate         422  no deployment can serve the request under its own limits
    |  |- RateLimited         429  over a rate, or too many at once; Retry-After tells when
    |  `- BudgetExhausted     429  what it may cost does not fit a budget
    |- UpstreamError               a vendor failed; carries what billing must know
    |  |- NotSent             502  refused, DNS, TLS, connect timeout: the vendor saw nothing
    |  |- NoReply             502  sent, but no answer came: may be billed
    |  |- Replied             ...  the vendor answered with an error
    |  `- Broken              502  the answer began and was cut or made no sense: may be billed
    |- AllAttemptsFailed      502  every candidate failed (or 504 when all were silent)
    `- RouterError                 we must act
       |- LedgerUnavailable   503  nothing may be spent because it could not be written down
       |- IndexUnavailable    503  a decision or a report that was asked for can't be looked up now
       |- KeysUnavailable     503  nobody is let in because keys can't be checked
       |- BudgetStoreUnavailable  503  a budget that must hold can't be checked
       |- Stopping            503  we are told to stop; another instance, or the next one, takes the request
       `- Overloaded          503  we shed load; Retry-After tells when

    ConfigurationError            start-up can't go on; not part of HTTP
    `- RegistryError              providers.yaml is wrong

`billed` of an UpstreamError: `no`, `maybe`, `yes`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import ClassVar


class Billed(StrEnum):
    """Whether a failed attempt may appear on the vendor's invoice."""

    NO = "no"
    MAYBE = "maybe"
    YES = "yes"


class CoeError(Exception):
    """The root: an OpenAI-shaped error with a status. `message` is shown to the caller, so it never holds a secret."""

    status: int = 500
    type: str = "server_error"
    code: str | None = None

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """`param` names the offending field, `code` refines the class's code, `headers` go into the response."""
        super().__init__(message)
        self.message = message
        self.param = param
        if code is not None:
            self.code = code
        self.headers = dict(headers or {})

    def body(self) -> dict[str, object]:
        """The OpenAI error object."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}


class CallerError(CoeError):
    """The caller must change the request; a retry of the same bytes can't help."""

    status = 400
    type = "invalid_request_error"


class InvalidRequest(CallerError):
    """400: the body has a wrong shape or value."""


class Unauthenticated(CallerError):
    """401: no key where one is needed, or one that is wrong or revoked."""

    status = 401
    code = "invalid_api_key"


class Forbidden(CallerError):
    """403: the key is good but may not do this."""

    status = 403
    type = "permission_error"
    code = "forbidden"


class NotFound(CallerError):
    """404: no such model, decision or url (or not the caller's)."""

    status = 404
    code = "not_found"


class MethodNotAllowed(CallerError):
    """405: the url exists, the method does not."""

    status = 405
    code = "method_not_allowed"


class BodyTooLarge(CallerError):
    """413: over the body limit."""

    status = 413
    code = "request_too_large"


class UnsupportedMedia(CallerError):
    """415: the body is not plain JSON."""

    status = 415
    code = "unsupported_media_type"


class RateLimited(CallerError):
    """429: over a rate of requests or tokens, or over a number of requests at once; `retry-after` says when."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"


class BudgetExhausted(CallerError):
    """429: what this may cost does not fit the budget of its key or tag; a retry can't help."""

    status = 429
    type = "insufficient_quota"
    code = "insufficient_quota"


class NoCandidate(CallerError):
    """422: nothing in the registry can serve this request; the message names the constraint that emptied the list."""

    status = 422
    code = "no_capable_model"


class UpstreamError(CoeError):
    """One attempt failed. `cause` is a short stable word for ledger and metrics; `upstream_status` is the vendor's.

    `of_key` is set when it is the fault of one key, and the provider has others that may still be used.
    """

    status = 502
    type = "upstream_error"
    code = "upstream_failed"
    billed: ClassVar[Billed] = Billed.NO

    def __init__(
        self,
        message: str,
        *,
        cause: str,
        upstream_status: int | None = None,
        retry_after_s: float | None = None,
        code: str | None = None,
    ) -> None:
        """`cause` such as `connect_refused`, `timeout_first_token`, `http_500`, `cut`."""
        super().__init__(message, code=code)
        self.cause = cause
        self.upstream_status = upstream_status
        self.retry_after_s = retry_after_s
        self.of_key = False


class NotSent(UpstreamError):
    """The request never reached the vendor: nothing was billed."""


class NoReply(UpstreamError):
    """The request was sent and no answer came: the vendor may bill it."""

    billed = Billed.MAYBE


class Replied(UpstreamError):
    """The vendor answered with an error: by every vendor's terms that is not billed.

    `passthrough` is set when the fault is the caller's own (a bad parameter, a content policy): the vendor's words are
    then worth more than another attempt, and `status` is the vendor's.
    """

    def __init__(
        self,
        message: str,
        *,
        cause: str,
        upstream_status: int,
        retry_after_s: float | None = None,
        code: str | None = None,
        passthrough: bool = False,
        param: str | None = None,
    ) -> None:
        """See the class; `param` and `code` are the vendor's when passed through."""
        super().__init__(message, cause=cause, upstream_status=upstream_status, retry_after_s=retry_after_s, code=code)
        self.passthrough = passthrough
        self.param = param
        if passthrough:
            self.status = upstream_status
            self.type = "invalid_request_error"


class Broken(UpstreamError):
    """The answer began and was cut, or was no answer at all: the vendor may bill it."""

    billed = Billed.MAYBE


class AllAttemptsFailed(CoeError):
    """502 or 504: every candidate failed; the message lists the attempts by deployment and cause."""

    status = 502
    type = "upstream_error"
    code = "upstream_failed"


class RouterError(CoeError):
    """We must act; the caller may try again. `part` is which of our own parts is not in order, where it is one."""

    status = 503
    type = "server_error"
    part: ClassVar[str | None] = None


class LedgerUnavailable(RouterError):
    """503: the journal can't be written, so nothing may be spent."""

    code = "ledger_unavailable"
    part = "ledger"


class IndexUnavailable(RouterError):
    """503: what was asked for may be in the ledger, and its index can't tell at the moment."""

    code = "index_unavailable"
    part = "index"


class KeysUnavailable(RouterError):
    """503: the key file can't be trusted, so nobody is let in."""

    code = "keys_unavailable"
    part = "keys"


class BudgetStoreUnavailable(RouterError):
    """503: what counts budgets can't be asked, and the request is under one that must hold."""

    code = "budget_store_unavailable"
    part = "budgets"


class Stopping(RouterError):
    """503: the router stops; nothing of an answer was sent."""

    code = "router_stopping"

    def __init__(
        self,
        message: str = "the router is stopping; send the request again in a moment",
        *,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """`headers` go into the response."""
        super().__init__(message, headers=headers)


class Overloaded(RouterError):
    """503: more work than we can take."""

    code = "overloaded"


class ConfigurationError(Exception):
    """Start-up can't go on: the message says what is wrong and what to do. Not part of HTTP."""


class RegistryError(ConfigurationError):
    """providers.yaml is wrong: one line per problem, each `file:line:column: what, and what to do`."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        """`problems` in the order of the file."""
        super().__init__("\n".join(problems))
        self.problems = problems
