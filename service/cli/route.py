"""`coe route "…"`: why this model. The decision that a running router would take, in a screenful or as JSON."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import click
import orjson

from classifiers import IntentClassifier
from service.api.chat_body import read_chat
from service.catalog.check import check
from service.cli.policy_runs import with_all_keys
from service.cli.settings import PROVIDERS, exits, read_catalog, read_settings
from service.domain.access import ANONYMOUS
from service.domain.catalog import Catalog
from service.domain.chat import ChatRequest
from service.domain.decision import NOT_CLASSIFIED, Decision
from service.domain.experience import NOTHING
from service.domain.features import features_of
from service.errors import InvalidRequest
from service.learned import read_learned
from service.reading import Learned, read_request
from service.routing.explain import record
from service.routing.router import decide, needs_intent
from service.routing.screen import screen
from service.routing.weighing import Circumstances

ALL_KEYS_NOTE = "as if every provider had its key: none is set here"


@click.command()
@click.argument("prompt", required=False)
@click.option("--json", "as_json", is_flag=True, help="The full decision as JSON, as POST /v1/route answers it.")
@click.option("--model", default=None, help="auto (the default), auto:<policy>, a model id or provider/model.")
@click.option("--policy", default=None, help="A policy of the registry.")
@click.option("--body", type=click.File("rb"), default=None, help="A whole chat request as JSON (`-` reads stdin).")
@click.option("--all-keys", is_flag=True, help="Decide as if every provider had its API key.")
@PROVIDERS
def route(
    prompt: str | None,
    as_json: bool,  # noqa: FBT001 # click passes flags this way
    model: str | None,
    policy: str | None,
    body: BinaryIO | None,
    all_keys: bool,  # noqa: FBT001 # click passes flags this way
    providers: Path | None,
) -> None:
    """Show which model a prompt would go to, and why."""
    if (prompt is None) == (body is None):
        raise click.UsageError("give a prompt (\"coe route '…'\") or a request body (--body FILE), one of them")
    if body is not None and (model is not None or policy is not None):
        raise click.UsageError(
            "--model and --policy go with a prompt; in a request body they are `model` and `coe.policy`"
        )
    settings = read_settings(providers=providers)
    now = datetime.now(UTC)
    with exits():
        chat = read_chat(body.read() if body else _request(prompt or "", model, policy), {})
        catalog = read_catalog(settings, now)
        note = None
        if all_keys or not check(catalog, now=now).usable:
            note = ALL_KEYS_NOTE if not all_keys else None
            catalog = with_all_keys(catalog)
        decision = _decide(chat, catalog, read_learned(settings, catalog), now)
        if note:
            decision = replace(decision, notes=(*decision.notes, note))
        if as_json:
            click.echo(json.dumps(record(decision, full=True), indent=2, ensure_ascii=False))
        else:
            click.echo(screen(decision))


def _request(prompt: str, model: str | None, policy: str | None) -> bytes:
    """The chat request of a prompt, `-` for the one on stdin; raises InvalidRequest when it is not UTF-8."""
    try:
        # Bytes, because what a text stream does with those that are not UTF-8 depends on the locale.
        text = sys.stdin.buffer.read().decode() if prompt == "-" else prompt
        request: dict[str, object] = {"model": model or "auto", "messages": [{"role": "user", "content": text}]}
        if policy is not None:
            request["coe"] = {"policy": policy}
        return orjson.dumps(request)
    except (UnicodeDecodeError, orjson.JSONEncodeError):
        # The shell's bytes arrive as lone surrogates, which JSON can't hold. Not chained: the cause quotes the prompt.
        raise InvalidRequest("the prompt, --model or --policy is not UTF-8; send the text in UTF-8") from None


def _decide(chat: ChatRequest, catalog: Catalog, learned: Learned, now: datetime) -> Decision:
    """As a router that has just started: with what was learned, and no prefix warm anywhere."""
    intent, known = NOT_CLASSIFIED, NOTHING
    if needs_intent(chat, catalog):
        intent, known = read_request(IntentClassifier.load(), learned.judge, chat, explained=True)
    budgeted = ANONYMOUS.budgeted(catalog.budgets, chat.steering.tags)
    around = Circumstances("dec_dry_run", now, ANONYMOUS, known, learned.lengths, budgeted)
    return decide(features_of(chat), intent, catalog, around)
