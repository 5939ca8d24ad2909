"""A recorded decision, taken again: from its record and a registry, and from nothing else.

Where on the path: beside it. `coe replay` does it for every record of a journal; `GET /v1/decisions/{id}` works out
what would have to change.

Invariants
1. `replay` refuses a record of other versions, and tells which version differs: what came of another registry proves
   nothing. `retake` asks what another registry would have done, and takes any that holds enough.
2. With the same versions the decision is the same, bit for bit: order, costs, reasons, reason code.
3. A record is what stands in a file: whatever is wrong with it is refused, nothing is taken for granted.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from service import __version__
from service.domain.access import Caller
from service.domain.catalog import Catalog
from service.domain.decision import Decision, Intent
from service.domain.experience import ExperienceError
from service.domain.experience import from_plain as experience_of
from service.domain.features import from_plain as features_from
from service.domain.plain import PlainError, Reader
from service.routing.explain import record
from service.routing.exploring import DRAWS
from service.routing.lengths import Lengths
from service.routing.router import RECORD_VERSION, decide
from service.routing.weighing import Circumstances

_ADDED = frozenset({"request_id", "key_id", "attempts", "cost_usd", "what_if"})
"""What others add to a record: who asked, what came of it."""


class NotReplayable(ValueError):
    """A record that can't be decided again here. `differing` names the versions that differ, if it is that."""

    def __init__(self, message: str, differing: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.differing = differing


def replay(told: Mapping[str, object], catalog: Catalog, lengths: Lengths | None = None) -> Decision:
    """The decision of a record, taken again with this registry and this table of answer lengths.

    Raises NotReplayable for a record of other versions and for one that is damaged, and the errors of `decide` when the
    request is refused now.
    """
    _check_versions(told, catalog, lengths)
    return retake(told, catalog, lengths)


def retake(told: Mapping[str, object], catalog: Catalog, lengths: Lengths | None = None) -> Decision:
    """The same request decided by a registry that may be another one, as if it came again at the same instant.

    Raises NotReplayable for a record that is damaged or of an older form, and the errors of `decide` when the request
    is refused.
    """
    versions = told.get("versions")
    form = versions.get("record") if isinstance(versions, dict) else None
    if form != RECORD_VERSION:
        raise NotReplayable(f"the record is of form {_shown(form)}, form {RECORD_VERSION} can be decided", ("record",))
    try:
        read = Reader(told, "record")
        features = features_from(read.value("features"))
        intent = _intent(read)
        caller = Reader(read.value("caller"), "caller")
        around = Circumstances(
            decision_id=read.text("id"),
            at=_instant(read.text("at")),
            # A name is not recorded: nothing depends on it.
            caller=Caller(
                None,
                "recorded",
                tags=caller.names("tags") if "tags" in caller else frozenset(),
                models=caller.names("models") if "models" in caller else frozenset(),
                policies=caller.names("policies") if "policies" in caller else frozenset(),
            ),
            experience=experience_of(read.value("experience")),
            lengths=lengths,
            budgeted="budgeted" in read and read.flag("budgeted"),
            draw=_draw(read),
        )
    except (PlainError, ExperienceError) as problem:
        raise NotReplayable(f"the record is damaged: {problem}") from problem
    return decide(features, intent, catalog, around)


def differences(told: Mapping[str, object], again: Decision) -> tuple[str, ...]:
    """The fields in which a record and a decision are not the same; none when it was reproduced bit for bit."""
    retold = record(again)
    names = [name for name in told if name not in _ADDED] + [name for name in retold if name not in told]
    return tuple(name for name in names if told.get(name, _ABSENT) != retold.get(name, _ABSENT))


_ABSENT = object()


def _check_versions(told: Mapping[str, object], catalog: Catalog, lengths: Lengths | None) -> None:
    """Raise NotReplayable when a version that exists before deciding is another one."""
    said = told.get("versions")
    recorded = said if isinstance(said, dict) else {}
    here = {
        "record": RECORD_VERSION,
        "router": __version__,
        "registry": catalog.version,
        "offer": catalog.offer,
        "lengths": None if lengths is None else lengths.version,
    }
    differing = tuple(name for name, version in here.items() if recorded.get(name) != version)
    if differing:
        shown = "; ".join(f"{name} was {_shown(recorded.get(name))}, is {_shown(here[name])}" for name in differing)
        raise NotReplayable(f"decided with other versions: {shown}", differing)


def _shown(version: object) -> str:
    return version if isinstance(version, str) else "none"


def _intent(read: Reader) -> Intent:
    said = Reader(read.value("intent"), "intent")
    versions = Reader(read.value("versions"), "versions")
    posterior = Reader(said.value("posterior"), "posterior")
    return Intent(
        label=said.text("label"),
        confidence=said.number("confidence"),
        posterior={name: posterior.number(name) for name in posterior},
        language=said.text("language"),
        abstained=said.flag("abstained"),
        artefact=versions.text("classifier"),
        difficulty=None if said.value("difficulty") is None else said.number("difficulty"),
        flags=said.texts("flags"),
        parts=said.texts("parts"),
        doubt=said.text("doubt") if "doubt" in said else "",
    )


def _draw(read: Reader) -> int | None:
    if read.value("seed") is None:
        return None
    number = read.whole("seed")
    if not 0 <= number < DRAWS:
        raise PlainError(f"`record.seed` is not from 0 to {DRAWS - 1}")
    return number


def _instant(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.utcoffset() != timedelta(0):
        raise PlainError("`record.at` is not an instant in UTC")
    return at
