"""Every log event, field and metric in one place: the names are public API. Structured JSON lines on stderr.

Where on the path: `configure` once at start; organs call `log.info(EVENT, field=...)`.

Invariants
1. Prompts, answers and secrets are never passed to a logger; `_redact` is the second net, not the first.
2. Control characters in values are escaped by the JSON encoder: one event is one line.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any, Final, TextIO, cast

import orjson
import structlog

from service.log_pipe import STDOUT, LogPipe

STARTED = "started"
STOPPED = "stopped"
REQUEST = "request"
ATTEMPT_FAILED = "attempt_failed"
SETTLE_FAILED = "settle_failed"
RECOVERED = "recovered"
INDEXER_FAILED = "indexer_failed"
INDEX_DISCARDED = "index_discarded"
INDEX_KEPT = "index_kept"
JOURNAL_TROUBLE = "journal_trouble"
INTERNAL_ERROR = "internal_error"
SERVER_TROUBLE = "server_trouble"
REGISTRY_RELOADED = "registry_reloaded"
REGISTRY_REFUSED = "registry_refused"
STRONG_SHARE_HIGH = "strong_share_high"
BREAKER_OPENED = "breaker_opened"
BREAKER_CLOSED = "breaker_closed"
READING_FAILED = "reading_failed"
CLOCK_JUMPED = "clock_jumped"
LOG_LINES_DROPPED = "log_lines_dropped"
WORKER_DIED = "worker_died"
WORKERS_RENEWED = "workers_renewed"
RENEWAL_FAILED = "renewal_failed"
FAILPOINT_ARMED = "failpoint_armed"
COUNTERS_LOST = "counters_lost"
COUNTERS_FOUND = "counters_found"
SPEND_UNCOUNTED = "spend_uncounted"
BUDGET_EXCEEDED = "budget_exceeded"
CACHE_LOST = "cache_lost"
CACHE_FOUND = "cache_found"
CACHE_FORGED = "cache_forged"

EVENTS = {
    STARTED: "the router is ready to answer; fields: version, registry, offer, simulated, kernel",
    STOPPED: "the router has settled everything and stops",
    REQUEST: "a request has ended; fields: request_id, decision_id, key_id, model, provider, status, code, attempts, "
    "total_ms",
    ATTEMPT_FAILED: "an attempt failed; fields: request_id, attempt_id, deployment, cause, upstream_status",
    SETTLE_FAILED: "a terminal row could not be written; fields: attempt_id, error",
    RECOVERED: "attempts of a crashed process were closed at start; fields: attempts, segments",
    INDEXER_FAILED: "the SQLite index could not follow the journal; fields: error, retry_s",
    INDEX_KEPT: "the SQLite index seemed damaged; it was looked through and is whole; fields: error, took_s",
    INDEX_DISCARDED: "the SQLite index was damaged; it is put aside and built again; fields: error, moved_to",
    JOURNAL_TROUBLE: "the journal could not write, sync, cut, wipe, mark, withdraw or recover; fields: step, error",
    INTERNAL_ERROR: "a fault of ours; fields: request_id, error, where",
    SERVER_TROUBLE: "HTTP server or event loop met what it did not expect; fields: server, error",
    REGISTRY_RELOADED: "a new registry serves; fields: version, offer, lengths, quality",
    REGISTRY_REFUSED: "a new registry was wrong, the old one serves; fields: problems",
    STRONG_SHARE_HIGH: "a key keeps getting the dear models; fields: key_id, share, requests",
    BREAKER_OPENED: "a deployment rests after failures, for one or all; fields: deployment, cause, for_s, key_id",
    BREAKER_CLOSED: "a deployment that rested has answered a probe; fields: deployment, key_id",
    READING_FAILED: "the classifier failed at a request, answered by a model good at everything; fields: error, where",
    CLOCK_JUMPED: "the clock of this machine was set while the router ran; fields: by_s",
    WORKER_DIED: "a worker process ended unasked and is replaced; fields: pid, code",
    WORKERS_RENEWED: "SIGUSR2: every worker was replaced by a new one; fields: workers",
    RENEWAL_FAILED: "SIGUSR2: the workers that run go on; fields: reason",
    LOG_LINES_DROPPED: "nobody read the log, so lines before this one are missing; fields: lines",
    COUNTERS_LOST: "the store of budgets and limits can't be asked; fields: error",
    COUNTERS_FOUND: "the store of budgets and limits answers, and knows what this process knows",
    SPEND_UNCOUNTED: "what was spent before this start can't be counted yet; fields: error",
    BUDGET_EXCEEDED: "a soft budget or limit is exceeded; once an hour; fields: key_id, budget, kind",
    CACHE_LOST: "the store of kept answers can't be asked; fields: error",
    CACHE_FOUND: "the store of kept answers answers again",
    CACHE_FORGED: "the store of kept answers held something that no router with this pepper put there",
    FAILPOINT_ARMED: "the router will die, fail or wait on purpose, for a test; fields: point, action",
}
"""What each event means; docs/logs.md is kept equal to this by a test."""

STRONG_SHARE_ALARMS = "coe_strong_share_alarms_total"
STRONG_SHARE_KEYS = "coe_strong_share_keys"

RESTING = "coe_deployment_resting"
RESTS = "coe_deployment_rests_total"
REQUESTS = "coe_requests_total"
ATTEMPTS = "coe_attempts_total"
TOKENS = "coe_tokens_total"
COST = "coe_cost_usd_total"
SPEND = "coe_spend_usd_total"
SPEND_PUSD = "coe_spend_pusd_total"
SPEND_TOKENS = "coe_spend_tokens_total"
KEY_SPEND = "coe_key_spend_usd_total"
TAG_SPEND = "coe_tag_spend_usd_total"
BUDGET_LIMIT = "coe_budget_limit_usd"
BUDGET_USED = "coe_budget_used_usd"
OVERHEAD = "coe_overhead_seconds"
FIRST_CONTENT = "coe_first_content_seconds"
LOOP_LAG = "coe_loop_lag_seconds"
LOOP_LAG_MAX = "coe_loop_lag_max_seconds"
IN_FLIGHT = "coe_requests_in_flight"
WAITING = "coe_requests_waiting"
SHED = "coe_requests_shed_total"
TASKS = "coe_tasks"
OPEN_ATTEMPTS = "coe_open_attempts"
JOURNAL_WRITABLE = "coe_journal_writable"
JOURNAL_SPILLED = "coe_journal_spilled_rows"
JOURNAL_SYNCS_FAILED = "coe_journal_failed_syncs_total"
PART_DEGRADED = "coe_part_degraded"
READINGS_FAILED = "coe_readings_failed_total"
LOG_DROPPED = "coe_log_lines_dropped_total"
COSTS_DROPPED = "coe_cost_lines_dropped_total"
CLOCK_JUMPS = "coe_clock_jumps_total"
BUDGET_REFUSALS = "coe_budget_refusals_total"
BUDGET_SOFT_EXCEEDED = "coe_budget_soft_exceeded_total"
CACHE_HITS = "coe_cache_hits_total"
CACHE_MISSES = "coe_cache_misses_total"
CACHE_STORED = "coe_cache_stored_total"
CACHE_NOT_KEPT = "coe_cache_not_kept_total"
CACHE_EVICTED = "coe_cache_evicted_total"
CACHE_BYTES = "coe_cache_bytes"
CACHE_ERRORS = "coe_cache_errors_total"
CACHE_SAVED = "coe_cache_saved_usd_total"

METRICS = {
    REQUESTS: "counter: requests that were decided, by the `status` they ended with (499: the caller left)",
    ATTEMPTS: "counter: attempts at vendors, by `deployment` and by how they `ended` (complete, or a cause)",
    TOKENS: "counter: tokens that were booked, by `deployment` and by their `kind` (input, output, …)",
    COST: "counter: what was booked in USD, by `deployment`; attempts of unknown cost add nothing",
    SPEND: "counter: the same by `model`, `provider`, `intent` and `usage_source` (provider, estimated, …)",
    SPEND_PUSD: "counter: the same in pico-USD, whole numbers: the ledger's sum of the attempts of this process",
    SPEND_TOKENS: "counter: tokens that were booked, by `model`, `provider`, `intent` and their `kind` (input, …)",
    KEY_SPEND: "counter: what was booked in USD, by `key_id`; with COE_METRICS_SPEND_BY alone",
    TAG_SPEND: "counter: what was booked in USD, by each `tag` of the key; with COE_METRICS_SPEND_BY alone",
    BUDGET_LIMIT: "gauge: the limit in USD of each `budget` of the registry, by `window` (day, month)",
    BUDGET_USED: "gauge: what all replicas have spent or reserved of it now; not told while nobody knows",
    RESTING: "gauge: 1 for each `deployment` that is passed over after failures, 0.5 for one that waits for a probe",
    RESTS: "counter: rests that deployments were sent to, since start",
    OVERHEAD: "histogram: our own part of the time of a request, in seconds: all but waiting on vendors",
    FIRST_CONTENT: "histogram: seconds from an attempt to the first content of its answer",
    LOOP_LAG: "histogram: how late the event loop comes back to what it was asked to do, in seconds",
    LOOP_LAG_MAX: "gauge: the largest of these since this page was read last",
    IN_FLIGHT: "gauge: requests that were begun and have not ended",
    WAITING: "gauge: requests that wait in line to be begun",
    SHED: "counter: requests that were refused with 503 `overloaded` before they were read",
    TASKS: "gauge: tasks on the event loop, the one that tells this among them; without traffic it does not grow",
    OPEN_ATTEMPTS: "gauge: attempts that are running now",
    JOURNAL_WRITABLE: "gauge: 1 while the journal takes rows, else 0: then nothing can be answered",
    JOURNAL_SPILLED: "gauge: rows that wait in the journal's reserve until its disk has room again",
    JOURNAL_SYNCS_FAILED: "counter: syncs of the journal that its disk refused; each begins a new segment",
    PART_DEGRADED: "gauge: 1 for each `part` of the router that is not in order, else 0 (docs/reliability.md)",
    READINGS_FAILED: "counter: requests that the classifier failed at",
    LOG_DROPPED: "counter: lines of the log that nobody read in time",
    COSTS_DROPPED: "counter: lines of the cost log that nobody read in time; the journal has what they told",
    CLOCK_JUMPS: "counter: times that the clock of this machine was set by more than a second",
    BUDGET_REFUSALS: "counter: attempts that a budget or a limit refused, by the `code` of the error",
    BUDGET_SOFT_EXCEEDED: "counter: requests that went over a soft budget or limit and were let pass",
    CACHE_HITS: "counter: requests that were answered from the cache",
    CACHE_MISSES: "counter: requests that were looked for in the cache and answered by a vendor",
    CACHE_STORED: "counter: answers that were kept",
    CACHE_NOT_KEPT: "counter: answers that were not, by `reason`: unfinished, too_large, given_up, busy",
    CACHE_EVICTED: "counter: answers in memory that made room for others",
    CACHE_BYTES: "gauge: what answers in memory take; of a Redis, its own figures tell",
    CACHE_ERRORS: "counter: times that the store of answers could not be asked, or held what was not put there so",
    CACHE_SAVED: "counter: what the answers given from the cache had cost, in USD",
    STRONG_SHARE_ALARMS: "counter: alarms on the share of strong choices of a key, since start",
    STRONG_SHARE_KEYS: "gauge: keys whose alarm is on",
}
"""What each metric means; docs/metrics.md is kept equal to this by a test."""

PART_LEDGER = "ledger"
PART_INDEX = "index"
PART_REGISTRY = "registry"
PART_KEYS = "keys"
PART_CLASSIFIER = "classifier"
PART_LOG = "log"
PART_BUDGETS = "budgets"
PART_CACHE = "cache"

PARTS = {
    PART_LEDGER: "nothing is spent: a new request gets 503 `ledger_unavailable`; what runs ends, and its end is kept",
    PART_INDEX: "requests go on; reports lag, and a decision that only the index knows gets 503 `index_unavailable`",
    PART_REGISTRY: "a new registry was refused: the one before serves",
    PART_KEYS: "nobody is let in: 503 `keys_unavailable`",
    PART_CLASSIFIER: "what could not be read goes to a model that is good at everything",
    PART_BUDGETS: "what is under a hard budget gets 503 `budget_store_unavailable`; other limits are not held",
    PART_CACHE: "requests go on and are answered by vendors; nothing is found in the cache or kept there",
    PART_LOG: "requests go on; lines that nobody reads are dropped and counted",
}
"""What the router does while a part of its own is not in order; docs/reliability.md is kept equal to this by a test."""

_COE, _SK, _BCE, _BEARER = "coe-", "sk-", "bce-v3/", "Bearer "
"""How a secret begins: to look for these is quicker than to look for the whole pattern."""

_SECRET = re.compile(rf"({_COE}|{_SK}|{_BCE}|{_BEARER})[A-Za-z0-9_\-./=]{{8,}}")


_CODE = re.compile(r"[\n(\[{<='\"]")
"""What begins a value in a message of the event loop, which has no templates."""

_tells_requests = [True]
"""Whether `note` writes: the level that was configured, where a request can look it up without structlog."""

_tells_costs = [False]
"""Whether there is a cost log."""


def configure(level: str, *, costs: bool = False) -> None:
    """Set up logging for the process. `level` is a standard level name; `costs`: the cost log is written."""
    _tells_costs[0] = costs
    _tells_requests[0] = getattr(logging, level) <= logging.INFO
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _redact,
            structlog.processors.JSONRenderer(serializer=lambda value, **_: orjson.dumps(value, default=str).decode()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level)),
        logger_factory=structlog.PrintLoggerFactory(file=cast(TextIO, LOG)),
        cache_logger_on_first_use=False,
    )
    for name in ("uvicorn", "asyncio"):
        server = logging.getLogger(name)
        server.handlers, server.propagate = [_ServerLog(logging.WARNING)], False


def logger() -> Any:  # noqa: ANN401 # structlog's loggers are typed by protocol only
    """The house's logger."""
    return structlog.get_logger()


def note(event: str, **fields: object) -> None:
    """What `logger().info` writes, for the one event of every request: in a tenth of its time."""
    if not _tells_requests[0]:
        return
    fields |= {"event": event, "level": "info", "timestamp": datetime.now(UTC)}
    line = orjson.dumps(fields, default=str, option=orjson.OPT_UTC_Z).decode()
    # The whole line at once: quotes end a secret as they begin it, and none stands in a line that is as it should be.
    if _COE in line or _SK in line or _BCE in line or _BEARER in line:
        line = _SECRET.sub(r"\1[redacted]", line)
    LOG.write(line + "\n")


def tells_costs() -> bool:
    """Whether the cost log is written: else its lines need not be made."""
    return _tells_costs[0]


def cost_line(fields: Mapping[str, object]) -> None:
    """Write a line of the cost log to standard output."""
    line = orjson.dumps(fields).decode()
    if _COE in line or _SK in line or _BCE in line or _BEARER in line:
        line = _SECRET.sub(r"\1[redacted]", line)
    COSTS.write(line + "\n")


def place_of(problem: BaseException) -> str:
    """File and line where an exception was raised. Not its text, which may quote what a caller sent."""
    where = problem.__traceback__
    while where is not None and where.tb_next is not None:
        where = where.tb_next
    return f"{where.tb_frame.f_code.co_filename.rsplit('/', 1)[-1]}:{where.tb_lineno}" if where else "unknown"


def _dropped(lines: int) -> str:
    told = {"lines": lines, "event": LOG_LINES_DROPPED, "level": "warning", "timestamp": datetime.now(UTC)}
    return orjson.dumps(told, option=orjson.OPT_UTC_Z).decode() + "\n"


LOG: Final = LogPipe(_dropped)
"""Where every line goes. A log that nobody reads, or nobody can read any more, must not fail or hold up a request."""


def _costs_dropped(lines: int) -> str:
    return orjson.dumps({"kind": "dropped", "v": 1, "lines": lines}).decode() + "\n"


COSTS: Final = LogPipe(_costs_dropped, descriptor=STDOUT)
"""Where the lines of the cost log go, in the same way."""


class _ServerLog(logging.Handler):
    """What HTTP server and event loop log, as an event of ours. Without tracebacks: their texts may hold a prompt."""

    def emit(self, record: logging.LogRecord) -> None:
        """See the class."""
        kind = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else None
        said = str(record.msg).strip()
        if said.startswith("Traceback"):
            said, kind = "an exception at start or stop", said.splitlines()[-1].partition(":")[0]
        if record.name == "asyncio":
            said = "event loop: " + _CODE.split(said)[0].strip()  # behind a bracket come values
        # The template, not the message: its arguments may be what a caller sent.
        logger().error(SERVER_TROUBLE, server=said.partition("\n")[0], error=kind)


def _redact(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = _SECRET.sub(r"\1[redacted]", value)
    return event
