"""Process settings, from the environment (`COE_*`).

Nothing else in the service reads `os.environ`, but for the provider keys that providers.yaml names, which `environ()`
hands to the loader.

Where on the path: `cli` builds `Settings` once and passes it down.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.guard.pepper import HOW_TO_MAKE_ONE, weakness

PREFIX = "COE_"


class JournalSync(StrEnum):
    """How durable an acknowledged journal row is against a power cut. No mode loses a row to a crash of ours."""

    GROUP = "group"
    ALWAYS = "always"
    INTERVAL = "interval"


class OnDisconnect(StrEnum):
    """What happens to a stream whose caller left: close it (and estimate the bill) or drain it (and know the bill)."""

    CLOSE = "close"
    DRAIN = "drain"


class CostLog(StrEnum):
    """Where a line for every attempt and request goes, beside the journal."""

    NONE = "none"
    STDOUT = "stdout"


class SpendBy(StrEnum):
    """What else /metrics counts spend by."""

    NONE = "none"
    KEY = "key"
    TAG = "tag"
    BOTH = "both"


class TransportName(StrEnum):
    """What speaks HTTP to vendors; see docs/adr/0007-native-transport.md."""

    NATIVE = "native"
    HTTPX = "httpx"


class Settings(BaseSettings):
    """Every setting with its default. docs/settings.md lists them; a test keeps that page complete."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True, env_ignore_empty=False)

    providers: Path | None = Field(
        default=None,
        description="The registry file. Default: ./providers.yaml, else the one that ships with the package.",
    )
    host: str = Field(default="127.0.0.1", description="Address to listen on. Anything but loopback needs keys.")
    port: int = Field(default=8000, ge=0, le=65_535, description="Port to listen on; 0 takes a free one.")
    workers: int = Field(
        default=1, ge=1, le=64, description="Processes that share the port. Each has its own journal segment."
    )
    data_dir: Path = Field(default=Path("data"), description="Journal, SQLite index, keys. Created with mode 0700.")
    key_pepper: SecretStr | None = Field(
        default=None,
        description="Secret mixed into key hashes, at least 32 bytes. Default: one is made in the data directory.",
    )
    admin_key: SecretStr | None = Field(
        default=None,
        description="The operator's own key, at least 32 bytes. /metrics and /admin/* ask for it; without one they "
        "are readable on loopback only.",
    )
    log_level: str = Field(
        default="INFO",
        pattern="^(DEBUG|INFO|WARNING|ERROR)$",
        description="DEBUG, INFO, WARNING or ERROR. No level logs prompts or secrets.",
    )
    cost_log: CostLog = Field(
        default=CostLog.NONE,
        description="`stdout`: a line of JSON for every attempt and request, for log shippers; a copy of the journal.",
    )
    metrics_spend_by: SpendBy = Field(
        default=SpendBy.NONE,
        description="Count spend in /metrics by `key`, by `tag` (of keys) or by `both`, too: a series for each.",
    )
    journal_sync: JournalSync = Field(
        default=JournalSync.GROUP,
        description="`group` syncs every 5 ms in the background; `always` waits for the disk; `interval` syncs every "
        "second.",
    )
    body_bytes_max: int = Field(
        default=4 * 1024 * 1024, ge=1_024, le=256 * 1024 * 1024, description="Largest request body, in bytes."
    )
    in_flight_max: int = Field(
        default=3_000,
        ge=1,
        le=4_096,
        description="Requests that one worker answers at once; more are told 503 `overloaded`. Health and admin pages "
        "are not counted.",
    )
    attempts_max: int = Field(default=3, ge=1, le=10, description="Upstream attempts a request may cost.")
    deadline_s: float = Field(
        default=600,
        ge=1,
        le=3_600,
        description="Longest time from arrival to the whole answer, or to the first content of a stream, over all "
        "attempts.",
    )
    drain_s: int = Field(
        default=30,
        ge=0,
        le=3_600,
        description="Longest time, in seconds, that running answers may go on after SIGTERM before they are cut and "
        "settled.",
    )
    on_disconnect: OnDisconnect = Field(
        default=OnDisconnect.CLOSE,
        description="A caller that leaves a stream: `close` the upstream and estimate, or `drain` it and know.",
    )
    transport: TransportName = Field(
        default=TransportName.NATIVE,
        description="What speaks HTTP to vendors: `native`, or `httpx`, which takes many times the processor time.",
    )
    upstream_proxy: SecretStr | None = Field(
        default=None,
        description="The forward proxy that all vendors are reached through, `http://user:password@host:port`. It "
        "takes the httpx transport. Proxies of the environment are ignored.",
    )
    strong_share_max: float = Field(
        default=0.8,
        gt=0,
        le=1,
        description="Share of a key's requests that may go to the dearer half of the deployments able to serve them; "
        "above it the log says so. 1: never.",
    )
    strong_share_window_s: float = Field(
        default=3_600, ge=60, le=604_800, description="Seconds over which that share is taken."
    )
    strong_share_requests_min: int = Field(
        default=50, ge=1, le=1_000_000, description="Requests that a window must hold before the share means anything."
    )
    quality_dir: Path | None = Field(
        default=None,
        description="A quality artefact (`coe train --outcomes`): how well models do on texts like the one at hand. "
        "Default: the registry's priors alone.",
    )
    feedback_comments: bool = Field(
        default=False,
        description="Keep the comments of `POST /v1/feedback` in the journal. They are people's own words.",
    )
    redis_url: SecretStr | None = Field(
        default=None,
        description="Where budgets and limits are counted for all processes and replicas together: `redis://`, "
        "`rediss://`, `unix://`, `valkey://`, `redis+sentinel://host:port,host:port/master/0`, "
        "`redis+cluster://host:port`. Default: in memory, for one process.",
    )
    redis_prefix: str = Field(
        default="coe",
        pattern="^[A-Za-z0-9_.-]{1,64}$",
        description="What the names of all keys in Redis begin with: routers that share a server and not their budgets "
        "need different ones.",
    )
    ledger_url: SecretStr | None = Field(
        default=None,
        description="Where the ledger is indexed for reports: `sqlite:///file`, or "
        "`postgresql://user:password@host:5432/database` or `clickhouse://user:password@host:8123/database`, which "
        "several replicas may share. Default: "
        "`ledger.sqlite` in the data directory. See [ledger.md](ledger.md).",
    )
    cache_url: SecretStr | None = Field(
        default=None,
        description="Where answers are kept for all processes and replicas together, once the registry has `cache:`: a "
        "URL as for COE_REDIS_URL. Default: in the memory of each process.",
    )
    failpoint: str | None = Field(
        default=None,
        description="For tests of the router alone: where it dies, fails or waits, as `point:action`.",
    )
    local_engines: bool = Field(
        default=True, description="Look for model servers (Ollama, vLLM, llama.cpp, LM Studio) on loopback at start."
    )

    @field_validator("admin_key")
    @classmethod
    def _strong(cls, key: SecretStr | None) -> SecretStr | None:
        """As strong as the pepper must be, and no placeholder: a weak one would only look like a lock."""
        problem = None if key is None else weakness(key.get_secret_value())
        if problem is not None:
            raise ValueError(f"{problem}. {HOW_TO_MAKE_ONE}, or unset it")
        return key


def environ() -> Mapping[str, str]:
    """The environment, for what providers.yaml asks of it."""
    return os.environ


def unknown_settings(environment: Mapping[str, str]) -> list[str]:
    """Variables that look like settings and are none of this version: a misspelt one must not be ignored in silence."""
    known = {variable(name) for name in Settings.model_fields}
    return sorted(name for name in environment if name.upper().startswith(PREFIX) and name.upper() not in known)


def variable(name: str) -> str:
    """The environment variable of a field of `Settings`."""
    return PREFIX + name.upper()
