"""What a decision knew beside the request: it differs between two equal requests, so the record holds it.

Where on the path: `pipeline` gathers it before `routing.decide`, which is a function of it; the decision record tells
it, so that a recorded decision can be taken again.

Invariants
1. `from_plain(known.plain())` equals what was known, also after a round through JSON.
2. Nothing of a prompt is in here: names of the registry, counts and qualities.
3. `NOTHING` changes no decision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


class ExperienceError(ValueError):
    """Plain data that is not what `plain` gives; the message names the field."""


@dataclass(frozen=True, slots=True)
class Experience:
    """What is known of this very text and of what vendors still hold of it.

    `qualities` maps registry models to P(acceptable) in steps (`decision.QUALITY_STEPS`), as a quality artefact judges
    the text; empty without one. `unknown_ground`: the artefact has seen too little like it, so the worst plausible
    intent counts. `warm_tokens` maps deployment ids to how many tokens of the prompt they hold in their cache.
    `marked`: the request says itself what is to be cached. `artefact` names who judged. `busy` maps the ids of engines
    of one's own to how many requests are at work there, none being left out; `None`: nobody knows.
    """

    qualities: Mapping[str, int] = field(default_factory=dict)
    unknown_ground: bool = False
    warm_tokens: Mapping[str, int] = field(default_factory=dict)
    marked: bool = False
    artefact: str = ""
    busy: Mapping[str, int] | None = None

    def plain(self) -> dict[str, object]:
        """As JSON values, only what is known: `{}` for nothing."""
        told: dict[str, object] = {}
        if self.qualities:
            told["qualities"] = dict(self.qualities)
        if self.unknown_ground:
            told["unknown_ground"] = True
        if self.warm_tokens:
            told["warm_tokens"] = dict(self.warm_tokens)
        if self.marked:
            told["marked"] = True
        if self.artefact:
            told["artefact"] = self.artefact
        if self.busy is not None:
            told["busy"] = dict(self.busy)
        return told


NOTHING = Experience()
"""What is known of a first request without a quality artefact."""


def from_plain(told: object) -> Experience:
    """The experience that `plain` told. Raises ExperienceError for anything else."""
    if not isinstance(told, dict):
        raise ExperienceError("the experience is not an object")
    unknown = told.keys() - {"qualities", "unknown_ground", "warm_tokens", "marked", "artefact", "busy"}
    if unknown:
        raise ExperienceError(f"the experience has no field {min(map(str, unknown))!r}")
    return Experience(
        qualities=_counts(told, "qualities"),
        unknown_ground=_flag(told, "unknown_ground"),
        warm_tokens=_counts(told, "warm_tokens"),
        marked=_flag(told, "marked"),
        artefact=str(told.get("artefact", "")),
        busy=_counts(told, "busy") if "busy" in told else None,
    )


def _counts(told: Mapping[str, object], name: str) -> dict[str, int]:
    found = told.get(name, {})
    if not isinstance(found, dict) or any(type(count) is not int or count < 0 for count in found.values()):
        raise ExperienceError(f"{name!r} is not a whole number for each name")
    return {str(key): count for key, count in found.items()}


def _flag(told: Mapping[str, object], name: str) -> bool:
    found = told.get(name, False)
    if not isinstance(found, bool):
        raise ExperienceError(f"{name!r} is not true or false")
    return found
