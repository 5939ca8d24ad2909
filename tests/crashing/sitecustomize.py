"""Faults of ours, forced into a router's process from outside: each raises what a careless line could, secrets and all.

Python runs a `sitecustomize` that it finds on its path before anything else. Which fault: a word of the prompt.
"""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from typing import Any

from service import house, pipeline, settling, stream_reply, telemetry

SECRETS = " ".join(os.environ.get(name, "") for name in ("ALPHA_KEY", "COE_ADMIN_KEY", "COE_KEY_PEPPER"))
_METRICS_BROKEN = threading.Event()

_answer, _decide = pipeline.Pipeline.answer, pipeline.Pipeline.decide
_forward, _tell = stream_reply.StreamReply.forward, settling.Settler.tell
_metrics, _stored, _reload = house.House.metrics, house.House.stored_decision, house.House.reload


def _said(chat: Any) -> str:
    return str(chat.body["messages"]) + SECRETS


def _burst(text: str) -> None:
    raise RuntimeError(text)


async def _burst_later(text: str) -> None:
    _burst(text)


async def _broken_answer(self: Any, chat: Any, arrival: Any) -> Any:
    text = _said(chat)
    if "crash-answer" in text:
        _burst(text)
    if "crash-chain" in text:
        try:
            _burst(text)
        except RuntimeError as problem:
            raise KeyError(text) from problem
    if "crash-group" in text:
        raise ExceptionGroup(text, [ValueError(text)])
    if "crash-task" in text:
        lost = asyncio.get_running_loop().create_task(_burst_later(text))
        await asyncio.sleep(0.01)
        del lost
        gc.collect()
    if "crash-callback" in text:
        asyncio.get_running_loop().call_soon(_burst, text)
    if "crash-thread" in text:
        threading.Thread(target=_burst, args=(text,), name="doomed").start()
    if "crash-leak" in text:
        telemetry.logger().info(telemetry.REQUEST, said=text)
    return await _answer(self, chat, arrival)


def _broken_decide(self: Any, chat: Any, *more: Any, **named: Any) -> Any:
    if "crash-decide" in _said(chat):
        _burst(_said(chat))
    return _decide(self, chat, *more, **named)


async def _broken_forward(self: Any, put: Any) -> bytes | None:
    if "crash-stream" in _said(self._work.chat):
        _burst(_said(self._work.chat))
    return await _forward(self, put)


def _broken_tell(self: Any, work: Any, status: int) -> None:
    if "crash-tell" in _said(work.chat):
        _burst(_said(work.chat))
    _tell(self, work, status)


def _broken_metrics(self: Any) -> str:
    if not _METRICS_BROKEN.is_set():
        _METRICS_BROKEN.set()
        _burst(SECRETS)
    return _metrics(self)


def _broken_stored(self: Any, decision_id: str) -> Any:
    if decision_id == "dec_crash":
        _burst(SECRETS)
    return _stored(self, decision_id)


async def _broken_reload(self: Any) -> None:
    if os.path.exists(os.environ.get("CRASH_RELOAD", "/nonexistent")):  # noqa: PTH110 # nothing more is imported here
        _burst(SECRETS)
    await _reload(self)


pipeline.Pipeline.answer, pipeline.Pipeline.decide = _broken_answer, _broken_decide  # type: ignore[method-assign]
stream_reply.StreamReply.forward, settling.Settler.tell = _broken_forward, _broken_tell  # type: ignore[method-assign]
house.House.metrics, house.House.stored_decision = _broken_metrics, _broken_stored  # type: ignore[method-assign]
house.House.reload = _broken_reload  # type: ignore[method-assign]
