"""Registries, key files and ledgers of any size for the router under measurement, written by its own functions."""

from __future__ import annotations

import hashlib
import secrets
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from service.domain.decision import EntryState, OpenEntry, TerminalEntry
from service.guard.keyfile import KeyBook, KeyRecord, create_line
from service.guard.keys import KEYS_FILE, KeyStore
from service.guard.pepper import load_pepper
from service.ledger.indexer import Indexer
from service.ledger.sinks import open_sink
from service.ledger.writer import JournalWriter

PROVIDERS = ("alpha", "beta", "gamma")
PRICED = "source: made up, checked: 2026-11-21"
KEYS_USED = 64
"""Keys of a large file that requests come with, in turn."""


def write_registry(path: Path, upstream_url: str, models: int = 10) -> Path:
    """`models` models at three providers, all of them the scripted vendor; the better ones cost more."""
    lines = [
        "version: 1",
        "currency: {base: USD, rates: {CNY: 0.1406}, as_of: 2026-11-21}",
        f"baseline: m{models - 1}",
        "default_policy: balanced",
        "providers:",
    ]
    vendor = f"base_url: '{upstream_url}/v1', protocol: openai_chat, region: eu, tags: [bench]"
    lines += [f"  {name}: {{{vendor}}}" for name in PROVIDERS]
    lines.append("models:")
    for number in range(models):
        share = number / max(1, models - 1)
        rates = (
            f"input: {0.1 + 4.9 * share:.4f}, cache_read: {0.01 + 0.49 * share:.4f}, output: {0.4 + 19.6 * share:.4f}"
        )
        lines += [
            f"  m{number}:",
            "    context_tokens: 2000000",
            "    output_tokens_max: 16384",
            "    capabilities: [tools, json_object]",
            "    languages: [zh, en]",
            f"    quality: {{default: {0.80 + 0.15 * share:.4f}}}",
            "    quality_source: made up",
            "    deployments:",
            f"      - provider: {PROVIDERS[number % len(PROVIDERS)]}",
            f"        name: wire{number}",
            "        prices:",
            f"          - {{from: 2026-01-01, currency: USD, {rates}, {PRICED}}}",
        ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def one_key(data_dir: Path, env: dict[str, str]) -> str:
    """The secret of a key made as an operator makes one: by `coe keys create`."""
    done = subprocess.run(  # noqa: S603 # a command of our own
        [sys.executable, "-m", "service", "keys", "create", "--name", "bench", "--data-dir", str(data_dir)],
        env=env,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.strip()


def write_keys(data_dir: Path, count: int) -> tuple[str, ...]:
    """A key file with `count` keys; the secrets of up to `KEYS_USED` of them."""
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    pepper, path = load_pepper(data_dir, None), data_dir / KEYS_FILE
    used = min(count, KEYS_USED)
    book, lines, now_ms = KeyBook(str(path), pepper), [], time.time_ns() // 1_000_000
    # Nobody will ever come with these, so their digests are of nothing; they are sealed one after the other, as
    # `KeyStore.create` would, but synced once and not a hundred thousand times.
    for number in range(count - used):
        digest = hashlib.sha256(number.to_bytes(8, "big")).digest()
        record = KeyRecord(
            f"key_{secrets.token_hex(8)}", f"caller {number}", digest, "coe-none", ("team",), (), (), now_ms, None, ""
        )
        line = book.sealed(create_line(record))
        book.absorb(line)
        lines.append(line)
    path.touch(mode=0o600)
    path.write_bytes(b"".join(lines))
    store = KeyStore(path, pepper)
    return tuple(store.create(f"bench {number}").secret for number in range(used))


def write_ledger(data_dir: Path, rows: int) -> None:
    """A journal with `rows` attempts of a month, and its index, as the router's own writer and indexer make them."""
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not rows:
        return
    writer = JournalWriter(data_dir, sync="interval")
    writer.start()
    now_ms = time.time_ns() // 1_000_000
    for number in range(rows):
        at_ms = now_ms - 30 * 86_400_000 + number * 30 * 86_400_000 // rows
        writer.write_open(_opening(number, at_ms))
        writer.write_terminal(_ending(number, at_ms + 900))
    writer.close()
    sink = open_sink(data_dir)
    with Indexer(data_dir, sink) as indexer:
        indexer.catch_up()
    sink.close()


def _opening(number: int, at_ms: int) -> OpenEntry:
    return OpenEntry(
        attempt_id=f"att_{number:016x}",
        request_id=f"req_{number:016x}",
        decision_id=f"dec_{number:016x}",
        attempt_number=1,
        at_ms=at_ms,
        key_id=f"key_{number % 200:016x}",
        requested_model="auto",
        model=f"m{number % 10}",
        provider=PROVIDERS[number % len(PROVIDERS)],
        wire_name=f"wire{number % 10}",
        intent=("chitchat", "summarize", "code_write")[number % 3],
        language="en",
        policy="balanced",
        price_version="2026-01-01",
        reserved_pusd=2_000_000_000,
        tags=("team",),
    )


def _ending(number: int, at_ms: int) -> TerminalEntry:
    return TerminalEntry(
        attempt_id=f"att_{number:016x}",
        state=EntryState.SETTLED,
        at_ms=at_ms,
        ended="complete",
        usage={"input": 300, "output": 80, "requests": 1},
        usage_source="provider",
        cost_pusd=62_000_000 + number % 1000,
        price={"currency": "USD", "version": "2026-01-01", "input": "0.1", "output": "0.4"},
        baseline_pusd=3_100_000_000,
        baseline_model="m9",
        served_model="scripted",
        upstream_status=200,
        upstream_id="chatcmpl-1",
        ttft_ms=None,
        total_ms=900.0,
        overhead_ms=0.4,
    )
