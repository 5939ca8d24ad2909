"""Plausible answers that say plainly that they are simulated, and the token rule that makes their usage checkable.

Where on the path: `completion` asks for the text of an answer; tests count the same tokens by hand.

The token rule. A text has ceil(ascii / 4 + others x 0.7) tokens, computed in integers:
ceil((5 x ascii + 14 x others) / 20). A prompt is the sum over its messages of that count plus `TOKENS_PER_MESSAGE`,
`TOKENS_PER_IMAGE` for each image, and the count of the tools' compact JSON. A tool call counts its name and its
arguments. No vendor counts so; what matters is that text and usage agree, and that a person can do the sum.

Invariants
1. Equal requests get equal answers: all variety comes from a hash of model and messages.
2. The answer is in the language of the last user message (Chinese, else English) and names the model it pretends to be.
3. `cut_to_tokens` never exceeds the count it was given.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

TOKENS_PER_MESSAGE = 4
"""What role and separators of one message cost."""

TOKENS_PER_IMAGE = 85
"""A flat price for an image part, whatever its size."""

ECHO_WORDS = 8
"""Words of an English question that the answer repeats."""

ECHO_CJK_CHARACTERS = 24
"""Characters of a Chinese question that the answer repeats."""

ECHO_CHARACTERS_MAX = 80
"""An echo is never longer than this, however long its words are."""

SENTENCES_EN = (
    "No model was called and nothing was paid for it.",
    "Its length and its token counts are made up by a fixed rule.",
    "Ask again and you will read the same words.",
    "Set a provider's key to get a real answer here.",
    "Routing, prices and the ledger around it are the real ones.",
)

SENTENCES_ZH = (
    "没有调用任何真实模型，也没有产生费用。",
    "它的长度和词元数量由固定规则得出。",
    "再问一次，会得到同样的文字。",
    "设置任一供应商的密钥，就能在这里得到真实回答。",
    "围绕它的路由、价格和账本都是真的。",
)


def text_tokens(text: str) -> int:
    """Tokens of a text by the rule in the module docstring."""
    return tokens_of(*count_characters(text))


def count_characters(text: str) -> tuple[int, int]:
    """How many ASCII and how many other characters a text has. By encoding: a 64 MB line must not hold the loop."""
    ascii_characters = len(text) if text.isascii() else len(text.encode("ascii", "ignore"))
    return ascii_characters, len(text) - ascii_characters


def tokens_of(ascii_characters: int, other_characters: int) -> int:
    """The token rule on counted characters, for callers that count as they go."""
    return -(-(5 * ascii_characters + 14 * other_characters) // 20)


def cut_to_tokens(text: str, tokens: int) -> str:
    """The longest prefix of `text` with at most `tokens` tokens."""
    twentieths = 20 * tokens
    for position, character in enumerate(text):
        twentieths -= 5 if character < "\x80" else 14
        if twentieths < 0:
            return text[:position]
    return text


def prompt_tokens(body: Mapping[str, Any]) -> int:
    """Prompt tokens of a chat request body (a parsed JSON object) by the rule in the module docstring."""
    messages = body.get("messages")
    total = 0
    for message in messages if isinstance(messages, list) else []:
        total += TOKENS_PER_MESSAGE
        if isinstance(message, dict):
            total += _message_tokens(message)
    tools = body.get("tools")
    if tools:
        total += text_tokens(json.dumps(tools, ensure_ascii=False, separators=(",", ":")))
    return total


def _message_tokens(message: Mapping[str, Any]) -> int:
    total = text_tokens(message_text(message))
    content = message.get("content")
    if isinstance(content, list):
        images = sum(1 for part in content if isinstance(part, dict) and part.get("type") == "image_url")
        total += TOKENS_PER_IMAGE * images
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else []:
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            total += text_tokens(str(function.get("name", ""))) + text_tokens(str(function.get("arguments", "")))
    return total


def message_text(message: Mapping[str, Any]) -> str:
    """All text of a message: its string content, or its text parts joined without separator."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    texts = (part.get("text") for part in content if isinstance(part, dict))
    return "".join(text for text in texts if isinstance(text, str))


def question_of(body: Mapping[str, Any]) -> str:
    """The text of the last user message, or the empty string."""
    messages = body.get("messages")
    for message in reversed(messages if isinstance(messages, list) else []):
        if isinstance(message, dict) and message.get("role") == "user":
            return message_text(message)
    return ""


def is_chinese(text: str) -> bool:
    """Whether at least a fifth of the visible characters are Han: a Chinese question often quotes English words."""
    visible = [character for character in text if not character.isspace()]
    han = sum(1 for character in visible if "\u4e00" <= character <= "\u9fff")
    return han * 5 >= len(visible) and han > 0


def seed_of(body: Mapping[str, Any], choice: int = 0) -> int:
    """A number that depends on model, messages, seed and choice only."""
    parts = [body.get("model"), body.get("messages"), body.get("seed"), choice]
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True, ensure_ascii=True).encode()).digest()
    return int.from_bytes(digest[:8], "big")


def plausible_text(body: Mapping[str, Any], model: str, choice: int = 0) -> str:
    """The simulated answer in words; `choice` varies it for `n` > 1."""
    question = question_of(body)
    seed = seed_of(body, choice)
    if is_chinese(question):
        opening = f"[{model} 的模拟回答] 您问的是：“{_echo(question, chinese=True)}”。这段文字由内置模拟器写成。"
        return opening + "".join(_pick(SENTENCES_ZH, seed))
    echo = _echo(question, chinese=False)
    asked = f'You asked: "{echo}". ' if echo else ""
    opening = f"[simulated answer by {model}] {asked}This text was written by the built-in simulator. "
    return opening + " ".join(_pick(SENTENCES_EN, seed))


def plausible_object(body: Mapping[str, Any], model: str, choice: int = 0) -> str:
    """The simulated answer as a JSON object, for `response_format: json_object`."""
    answer = {"simulated": True, "model": model, "answer": plausible_text(body, model, choice)}
    return json.dumps(answer, ensure_ascii=False)


def _echo(question: str, *, chinese: bool) -> str:
    printable = "".join(character if character.isprintable() else " " for character in question)
    words = printable.replace('"', "'").split()
    if chinese:
        text = " ".join(words)
        return text if len(text) <= ECHO_CJK_CHARACTERS else text[:ECHO_CJK_CHARACTERS] + "…"
    text = " ".join(words[:ECHO_WORDS])[:ECHO_CHARACTERS_MAX]
    return text + " …" if len(words) > ECHO_WORDS else text


def _pick(sentences: Sequence[str], seed: int) -> list[str]:
    """One to four different sentences; the seed says how many and where to start."""
    count = 1 + seed % 4
    start = (seed // 4) % len(sentences)
    return [sentences[(start + step) % len(sentences)] for step in range(count)]


def pieces_of(text: str, count: int | None) -> list[str]:
    """Cut a text into `count` pieces of nearly equal length (fewer when it is shorter), or, with `None`, into words.

    The pieces joined are the text. An empty text has no pieces.
    """
    if not text:
        return []
    if count is None:
        return _words(text)
    size = math.ceil(len(text) / count)
    return [text[start : start + size] for start in range(0, len(text), size)]


def _words(text: str) -> list[str]:
    """Words with the space before them; text without spaces goes by two characters, as tokenizers cut Chinese."""
    pieces: list[str] = []
    start = 0
    for position in range(1, len(text) + 1):
        if position == len(text) or text[position] == " " or (text[position - 1] >= "\x80" and position - start >= 2):
            pieces.append(text[start:position])
            start = position
    return pieces
