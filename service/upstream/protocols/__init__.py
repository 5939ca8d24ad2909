"""The wire protocols, one file each. To add one: its file, and its line in `PROTOCOLS`."""

from __future__ import annotations

from collections.abc import Mapping

from service.domain.ports import WireProtocol
from service.upstream.protocols.openai_chat import OpenAIChat

PROTOCOLS: Mapping[str, WireProtocol] = {
    "openai_chat": OpenAIChat(),
}
