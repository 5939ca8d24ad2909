"""From a conversation to an intent: the only module of this package that runs while a request waits.

Where on the path: step 2, before planning. NumPy and the standard library only; scikit-learn is never imported here.
`judging` says what one text looks like; which texts of a request are read, and which reading counts, is decided here.

Invariants:
1. Only turns of the role `user` are read: harness text is not the person's wish. Without evidence it abstains: no user
   turn, no letter and no digit in the last one, words and marks that say less than `EVIDENCE_MIN` for the label, or a
   text that looks like no wish at all.
2. Bounded work: see `features`. No clock, no network, no state: the same turns give the same prediction.
3. The posterior names every intent in the order of `INTENTS` and sums to 1.
4. An abstention is never "simple": the label is then only the likeliest guess.
5. A text that looks dear, or like nothing, is read again without what `dressing` takes off; that reading counts only
   when it is sure of an everyday intent. Dressing up an everyday prompt buys little.
6. A text that looks like small talk is read again without its courtesies, and without the sentences that alone are
   small talk: politeness hides no hard wish.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Final, NamedTuple, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from classifiers.artefact import Artefact, ArtefactError
from classifiers.artefact import load as load_artefact
from classifiers.compound import pieces
from classifiers.courtesy import uncourteous, without_sentences
from classifiers.dressing import ends, undressed
from classifiers.features import Features, extract
from classifiers.judging import ALONE, DOUBTS, FITS_NOTHING, FOLLOW_UP, NO_WORDS, Judgement, Table, judge_by
from classifiers.language import UNDETERMINED
from classifiers.personal import has_personal_data
from classifiers.sayings import asks_about_material
from classifiers.taxonomy import COMPOUND, DIFFICULTY_MAX, DIFFICULTY_MIN, EVERYDAY, FLAG_HEADS, INDEX, INTENTS
from classifiers.terms import strongest
from classifiers.turns import Said, user_texts

__all__ = [
    "DOUBTS",
    "FITS_NOTHING",
    "FOLLOW_UP",
    "NO_WORDS",
    "ArtefactError",
    "IntentClassifier",
    "Part",
    "Prediction",
]

SHIPPED: Final = "intent-v2"

PART_CONFIDENCE_MIN: Final = 0.4
"""A piece that is less sure than this is no step."""

READINGS_MORE: Final = 3
READINGS_OF_AN_END: Final = 2
"""Readings of one text besides the first one; leaving out one end takes two of them."""

SURE_OF_MATERIAL: Final = 0.8
"""A reading so sure is not given up for a short question about the code or formula, nor left out as mere talk."""

DEAR_SHARE_MAX: Final = 0.7
"""How much of a part that is left out may look dear, however unsure that is."""

TALK_CHARS_MAX: Final = 140
"""A longer part is more than talk about the answer; half as many where a character is not ASCII."""

SURE_AMID_TALK: Final = 0.7
"""How sure a hard wish must be that stands between sentences of small talk."""

SURE_WITHOUT_AN_END: Final = 0.65
"""How sure the rest must be of a text whose end is cut off though nothing tells that it is talk about the answer."""

_CHITCHAT: Final = 0
_COMPOUND: Final = INDEX[COMPOUND]
_EVERYDAY: Final = frozenset(INDEX[name] for name in EVERYDAY)
_OF_MATERIAL: Final = (INDEX["coding"], INDEX["math"])
"""Places of intents in `INTENTS`."""

_CHOICES_FIRST: Final = re.compile(r"[(（]?A[.)、）:：]")
_NAMED: Final = tuple(
    tuple(name for place, name in enumerate(FLAG_HEADS) if bits >> place & 1) for bits in range(1 << len(FLAG_HEADS))
)
"""The flags that bits of a judgement name."""


class Prediction(NamedTuple):
    """What a conversation is about.

    `posterior` maps all intents, in order, to calibrated probabilities. `language` is `en`, `zh`, `other` or `und`
    (no letters). `difficulty` is between 1 (any model) and 5 (experts). `flags` are names out of code, math, tools,
    personal, harness. `doubt` is why it abstained, one of the `DOUBTS`, or empty. `terms` are pieces of the last user
    turn, or names of structural flags, with their share of the label's logit; empty unless asked for. They quote the
    prompt, so they don't belong in a log.
    """

    label: str
    confidence: float
    posterior: Mapping[str, float]
    language: str
    abstained: bool
    terms: tuple[tuple[str, float], ...]
    artefact: str
    difficulty: float = DIFFICULTY_MIN
    flags: tuple[str, ...] = ()
    doubt: str = ""


class Part(NamedTuple):
    """One step of a compound request. `text` is a piece of the last user turn: it doesn't belong in a log."""

    intent: str
    confidence: float
    text: str


class _Around(NamedTuple):
    """What stands around a text that is read: its context, and how much it and each earlier turn counts."""

    context: tuple[int, ...]
    shares: tuple[float, ...]
    earlier: tuple[Any, ...]


_NOTHING_AROUND: Final = _Around((), ALONE, ())

Reading: TypeAlias = tuple[Judgement, str]
"""A judgement, and the text that it is of."""


class IntentClassifier:
    """A verified artefact, unpacked for scoring. Immutable after `load`, so threads may share it."""

    __slots__ = ("_artefact", "_judges", "_table")

    def __init__(self, artefact: Artefact) -> None:
        """Put the known rows side by side, with an empty one for all others."""
        self._artefact = artefact
        self._table = Table(artefact)
        self._judges = judge_by(self._table)

    @classmethod
    def load(cls, directory: Path | None = None) -> Self:
        """Verify and unpack the artefact in `directory`, or the shipped one. Raises `ArtefactError`."""
        if directory is not None:
            return cls(load_artefact(directory))
        shipped = resources.files("classifiers") / "artefacts" / SHIPPED
        with resources.as_file(shipped) as found:
            return cls(load_artefact(found))

    @property
    def id(self) -> str:
        """Name and short hash of the artefact."""
        return self._artefact.id

    def weights_of(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """(n, 24) weights of rows of the features: intents, heads, the mean of the intents, empty ones."""
        return self._table.of(rows)

    def predict(self, turns: Sequence[tuple[str, str]], *, terms: bool = False) -> Prediction:
        """Classify (role, text) turns, oldest first; with `terms`, also say which pieces of the text spoke for it."""
        texts = user_texts(turns)
        if not texts:
            return self._nothing()
        first, last = self._soberly(texts)
        return self._prediction(texts[0], first, last, terms=terms)

    def read(self, turns: Sequence[tuple[str, str]], *, terms: bool = False) -> tuple[Prediction, Features | None]:
        """`predict`, and the features of the last user turn for whoever reads more off them; `None` without one."""
        texts = user_texts(turns)
        if not texts:
            return self._nothing(), None
        first, last = self._soberly(texts)
        features = last[0].features or extract(last[1], context=texts[0].context)
        return self._prediction(texts[0], first, last, terms=terms), features

    def explain(self, turns: Sequence[tuple[str, str]], label: str | None = None) -> tuple[tuple[str, float], ...]:
        """The strongest evidence in the last user turn for a label (default: the predicted one), heaviest first.

        Raises `ValueError` for a label that is not an intent.
        """
        if label is not None and label not in INDEX:
            raise ValueError(f"unknown intent {label!r}; use one of {', '.join(INTENTS)}")
        texts = user_texts(turns)
        if not texts:
            return ()
        _, (judged, text) = self._soberly(texts)
        return self._terms(text, texts[0].context, INDEX[label] if label else judged.best)

    def parts(self, turns: Sequence[tuple[str, str]]) -> tuple[Part, ...]:
        """The steps of a request, in order: its pieces, judged one by one; none when they don't differ.

        Neighbours of one intent are one step. Bounded by `compound.PIECES_MAX` predictions.
        """
        texts = user_texts(turns)
        if not texts:
            return ()
        found: list[Part] = []
        judged: dict[str, tuple[str, float] | None] = {}
        for piece in pieces(texts[0].text):
            if piece not in judged:
                judged[piece] = self._step(piece)
            step = judged[piece]
            if step is None:
                continue
            label, confidence = step
            if found and found[-1].intent == label:
                if confidence > found[-1].confidence:
                    found[-1] = Part(label, confidence, found[-1].text)
                continue
            found.append(Part(label, confidence, piece))
        return tuple(found) if len(found) > 1 else ()

    def _step(self, piece: str) -> tuple[str, float] | None:
        """The likeliest intent of one piece and its share, unless there is doubt."""
        judged = self._judge(piece, _NOTHING_AROUND)
        confidence = max(judged.posterior[:_COMPOUND])  # a piece of a compound request is not itself compound
        if judged.doubt or confidence < PART_CONFIDENCE_MIN:
            return None
        return INTENTS[judged.posterior.index(confidence)], confidence

    def _nothing(self) -> Prediction:
        share = 1.0 / len(INTENTS)
        posterior = dict.fromkeys(INTENTS, share)
        return Prediction(
            INTENTS[0], share, posterior, UNDETERMINED, abstained=True, terms=(), artefact=self.id, doubt=NO_WORDS
        )

    def _prediction(self, said: Said, first: Reading, last: Reading, *, terms: bool) -> Prediction:
        """What the last of the readings says, with what the first one of the whole text can't unsay."""
        judged, text = last
        flags = _NAMED[judged.named]
        # Whatever is left out of a reading, the request still holds it.
        if has_personal_data(first[1], first[0].digits) or (
            text is not first[1] and has_personal_data(text, judged.digits)
        ):
            flags = (*flags, "personal")
        if said.noisy:
            flags = (*flags, "harness")
        return Prediction(
            label=INTENTS[judged.best],
            confidence=judged.posterior[judged.best],
            posterior=dict(zip(INTENTS, judged.posterior, strict=True)),
            language=judged.language,
            abstained=bool(judged.doubt),
            terms=self._terms(text, said.context, judged.best) if terms else (),
            artefact=self._artefact.id,
            difficulty=min(max(judged.level, DIFFICULTY_MIN), DIFFICULTY_MAX),
            flags=flags,
            doubt=judged.doubt,
        )

    def _soberly(self, texts: Sequence[Said]) -> tuple[Reading, Reading]:
        """The first reading of the last turn, and the one without courtesies and dressing where they matter.

        At most `READINGS_MORE` readings besides the first one, and one of an end that is cut off. What looks like small
        talk is read twice more, and at most eight of its sentences alone.
        """
        around, text = self._around(texts), texts[0].text
        first = read = self._judge(text, around), text
        if first[0].best == _CHITCHAT:
            read = self._plainly(read, around)
        if not _is_everyday(read[0]):
            read = self._undressed(read, around)
        return first, read

    def _around(self, texts: Sequence[Said]) -> _Around:
        """What the readings of the last turn have in common."""
        if len(texts) == 1:
            return _Around(texts[0].context, ALONE, ()) if texts[0].context else _NOTHING_AROUND
        norm = sum(said.weight * said.weight for said in texts) ** 0.5
        shares = tuple(said.weight / norm for said in texts)
        earlier = tuple(self._judges.hear(said.text, said.context) for said in texts[1:])
        return _Around(texts[0].context, shares, earlier)

    def _judge(self, text: str, around: _Around) -> Judgement:
        """One reading."""
        return self._judges.judge(text, *around)

    def _plainly(self, first: Reading, around: _Around) -> Reading:
        """Small talk without its courtesies, then without the sentences that alone look like small talk, too."""
        text = first[1]
        bare = uncourteous(text)
        if bare != text:
            again = self._judge(bare, around)
            if again.best != _CHITCHAT:
                # Small talk is what is left of much small talk, too: an everyday rest has to be surer than the whole.
                is_wish = not _is_everyday(again) or _confidence(again) > _confidence(first[0])
                return (again, bare) if is_wish else first
        rest = without_sentences(bare, self._is_small_talk)
        if rest != bare:
            again = self._judge(rest, around)
            surely = not again.doubt and _confidence(again) >= SURE_AMID_TALK
            if surely and again.best not in _EVERYDAY:
                return again, rest
        return first

    def _is_small_talk(self, sentence: str) -> bool:
        return self._judge(sentence, _NOTHING_AROUND).best == _CHITCHAT

    def _undressed(self, read: Reading, around: _Around) -> Reading:
        """A text that looks dear, or like nothing, without its dressing, and on trial without either end."""
        left = READINGS_MORE
        for bare, firmly in undressed(read[1]):
            of_material = read[0].best in _OF_MATERIAL and _confidence(read[0]) >= SURE_OF_MATERIAL
            if of_material and not firmly and asks_about_material(bare):
                break
            again = self._judge(bare, around)
            left -= 1
            if _is_everyday(again):
                return again, bare
            # Without talk, disguise and lists a text says what it says. What may be meant is left out for nothing less
            # than a sure everyday wish.
            if firmly:
                read = again, bare
        if read[0].doubt or read[0].best == _COMPOUND:
            return self._without_an_end(read, around, left)
        return read

    def _without_an_end(self, read: Reading, around: _Around, left: int) -> Reading:
        """A text that says nothing clear, without its first or last block where that is no wish; `left` readings."""
        judged = read[0]
        for rest, cut, about_answers in ends(read[1]):
            if left < READINGS_OF_AN_END or _CHOICES_FIRST.match(rest) is not None:
                break
            # A sure compound has steps that stand apart: only talk about the answer is none of them.
            if not (judged.doubt or about_answers):
                continue
            again = self._judge(rest, around)
            left -= 1
            if _is_everyday(again) and (about_answers or _confidence(again) >= SURE_WITHOUT_AN_END):
                # What was cut off may have been the wish: alone it must say little, or be but short talk.
                alone = self._judge(cut, _NOTHING_AROUND)
                dear = sum(share for place, share in enumerate(alone.posterior) if place not in _EVERYDAY)
                short = len(cut) <= (TALK_CHARS_MAX if cut.isascii() else TALK_CHARS_MAX // 2)
                sure = alone.best not in _EVERYDAY and _confidence(alone) >= SURE_OF_MATERIAL
                is_talk = about_answers and short and not sure and bool(judged.doubt or alone.doubt)
                return (again, rest) if is_talk or (alone.doubt and dear < DEAR_SHARE_MAX) else read
        return read

    def _terms(self, text: str, context: tuple[int, ...], place: int) -> tuple[tuple[str, float], ...]:
        features = extract(text, spans=True, context=context)
        return strongest(features, self._table.of(features.buckets)[:, place] * features.values)


def _is_everyday(judged: Judgement) -> bool:
    return judged.best in _EVERYDAY and not judged.doubt


def _confidence(judged: Judgement) -> float:
    return judged.posterior[judged.best]
