"""What agents and apps wrap around a person's words: recognised and taken off, so that it is not read as a wish.

Where on the path: `turns.user_texts` unwraps each user turn before it selects what is read.

Invariants:
1. Work is bounded: of a long turn only `2 * SCAN_CHARS` characters from each end are looked at, in at most
   `BLOCKS_MAX` steps; a turn that opens and ends like plain text costs a few comparisons.
2. What is not recognised stays as it is. Taking off too little costs accuracy; taking off too much loses a wish.
3. Nothing left means that nobody said anything in this turn: a tool's result, a reminder.
"""

from __future__ import annotations

import json
from typing import Final, NamedTuple

SCAN_CHARS: Final = 16_384
BLOCKS_MAX: Final = 12
NAME_CHARS_MAX: Final = 40

# fmt: off
NOISE_TAGS: Final = frozenset({
    "system-reminder", "system_reminder", "system", "environment_details", "environment_context", "environment",
    "env", "context_info", "user_info", "user_instructions", "project_layout", "workspace_info", "open_files",
    "attached_files", "attachments", "additional_data", "ide_selection", "ide_opened_file", "ide_context",
    "cursor_context", "editor_context", "git_status", "command-name", "command-message", "command-args",
    "local-command-stdout", "local-command-stderr", "bash-stdout", "bash-stderr", "bash-input", "tool_result",
    "tool_results", "tool_response", "tool_output", "function_results", "function_response", "observation",
    "search_results", "documents", "memory", "memories", "reminder", "persisted-output", "metadata",
    "custom_instructions", "rules",
})
# fmt: on
"""Blocks that an agent adds; their content is no wish."""

WORDS_TAGS: Final = (
    "user_query",
    "user_request",
    "user_message",
    "user_input",
    "query",
    "question",
    "task",
    "feedback",
)
"""Blocks that hold the person's own words."""

CONTENT_KEYS: Final = ("content", "query", "prompt", "message", "text", "input", "question", "user_input", "request")
"""Where a JSON envelope keeps what the person wrote, likeliest first."""

APP_CALLS: Final = (
    "title for this conversation",
    "title for the conversation",
    "title for this chat",
    "title for the following conversation",
    "summary of the conversation so far",
    "summary of our conversation",
    "summarize the conversation so far",
    "summarize this conversation so far",
    "compact the conversation",
    "follow-up questions the user might ask",
    "generate tags for",
    "conversation title",
    "chat history",
    "为对话生成标题",
    "生成对话标题",
    "会话标题",
    "对话标题",
    "起个标题",
    "生成一个简短的标题",
    "压缩对话",
    "总结以上对话",
    "总结到目前为止的对话",
    "历史对话",
)
"""What apps say when they call a model for themselves: a title, a summary to make room."""

APP_CALL_CHARS: Final = 400
_OPENERS: Final = frozenset("<{[ \n\t\r")


class Unwrapped(NamedTuple):
    """A turn without its wrapping. `noisy` when something was taken off, `by_app` when an app asks for itself."""

    text: str
    noisy: bool
    by_app: bool


def unwrap(text: str) -> Unwrapped:
    """The person's words in one user turn; see the module."""
    if not text:
        return Unwrapped(text, noisy=False, by_app=False)
    if len(text) > 4 * SCAN_CHARS:
        # Nobody reads the middle of a long text, so nobody needs to copy it either.
        text = text[: 2 * SCAN_CHARS] + "\n" + text[-2 * SCAN_CHARS :]
    bare = text
    if text[0] in _OPENERS or text[-1] in ">}] \n\t\r":
        bare = _without_blocks(text)
        if bare[:1] in ("{", "["):
            bare = _from_envelope(bare)
    head = bare[:APP_CALL_CHARS].lower()
    by_app = ("tit" in head or "conversation" in head or "对话" in head or "标题" in head or "tags" in head) and any(
        call in head for call in APP_CALLS
    )
    return Unwrapped(bare, noisy=bare is not text and len(bare) < len(text.strip()), by_app=by_app)


def _without_blocks(text: str) -> str:
    """Blanks and known blocks taken off both ends; the inside of a block of the person's words when there is one."""
    for _ in range(BLOCKS_MAX):
        text = _stripped(text)
        name = _opened_by(text)
        if name in WORDS_TAGS:
            inner = _inside(text, name)
            if inner is not None:
                return _stripped(inner)
        if name not in NOISE_TAGS:
            break
        end = text.find(f"</{name}>", 0, SCAN_CHARS)
        if end < 0:
            # A block longer than what is searched, or one that was cut: its end may stand near the end of the turn.
            end = text.rfind(f"</{name}>", max(0, len(text) - SCAN_CHARS))
        if end < 0:
            break
        text = text[end + len(name) + 3 :]
    for _ in range(BLOCKS_MAX):
        text = _stripped(text)
        name = _closed_by(text)
        if name in WORDS_TAGS:
            inner = _inside(text, name)
            return text if inner is None else _stripped(inner)
        start = text.rfind(f"<{name}", max(0, len(text) - SCAN_CHARS)) if name in NOISE_TAGS else -1
        if start < 0:
            break
        text = text[:start]
    return text


def _stripped(text: str) -> str:
    """Without blanks at both ends."""
    return text.strip()


def _opened_by(text: str) -> str:
    """The name of the tag that a text opens with, or nothing."""
    if text[:1] != "<":
        return ""
    end = text.find(">", 1, NAME_CHARS_MAX + 120)
    return text[1:end].split(" ", 1)[0].lower() if end > 0 else ""


def _closed_by(text: str) -> str:
    """The name of the closing tag that a text ends with, or nothing."""
    if text[-1:] != ">":
        return ""
    start = text.rfind("</", max(0, len(text) - NAME_CHARS_MAX))
    return text[start + 2 : -1].lower() if start >= 0 else ""


def _inside(text: str, name: str) -> str | None:
    """What stands between the last `<name>` near the end of a text and its closing tag."""
    end = text.rfind(f"</{name}>", max(0, len(text) - SCAN_CHARS))
    start = text.rfind(f"<{name}", max(0, end - SCAN_CHARS), end) if end > 0 else -1
    opened = text.find(">", start, end) if start >= 0 else -1
    return text[opened + 1 : end] if opened > 0 else None


def _from_envelope(text: str) -> str:
    """The person's words in a JSON message, or the text as it is when it is no such thing."""
    if len(text) > SCAN_CHARS or not any(f'"{key}"' in text for key in CONTENT_KEYS):
        return text
    try:
        found = _said(json.loads(text))
    except (ValueError, RecursionError):
        return text
    return found or text


def _said(value: object) -> str | None:
    """The newest words of a user in a message, a list of messages or a body that holds one."""
    if isinstance(value, list):
        messages = [item for item in value if isinstance(item, dict) and item.get("role", "user") == "user"]
        return _said(messages[-1]) if messages else None
    if not isinstance(value, dict):
        return None
    if isinstance(value.get("messages"), list):
        return _said(value["messages"])
    for key in CONTENT_KEYS:
        content = value.get(key)
        if isinstance(content, str) and content.strip():
            return content
        if isinstance(content, list):
            texts = [part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)]
            return "\n".join(texts) or None
    return None
