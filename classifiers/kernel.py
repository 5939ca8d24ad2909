"""The compiled kernel, where `_kernel` was built: `scanning.scan`, the weighing of features, and what others ask of it.

Where on the path: `features.extract` asks `compiled_scan`, the scorers ask `weigh` and `weigh_known`; `judging`,
`sayings`, `dressing` and `compound` take their own part of the kernel, and have its twin. Where nothing was compiled at
installation NumPy and Python do the same, in several times the time.

Invariants:
1. The kernel reads what NumPy reads, to the last bit; its sums of products may differ in the last bit where NumPy fuses
   multiplications and additions (on ARM, for one). One that was built from other sources is not used.
2. `STATE` says which one runs: a router that is slower than it could be says so.
"""

from __future__ import annotations

import hashlib
import importlib
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from classifiers import alphabet, anchors, folding, language, scanning, structure
from classifiers.cues import CJK_SIZES, HINTS
from classifiers.scanning import ROOM, Scan
from classifiers.turns import HEAD_CHARS, TAIL_CHARS

SPECIMENS: Final = (
    'Translate "see you at 6:30" into French, then e-mail it: thanks!',
    "Résumé of the following text\n\nThe  Ferry was late; nobody minded.\n- one\n- two\nIs 3 < 5?",
    "请把下面这段话总结成两句话：２０２３年，他学会了用Python写代码。",
    "春夏秋冬又一年，かなも少しある。" * 14 + "写完再译",
    'Which 27" monitor is best for the eyes?',
    "```\ndef f(x):\n    return x ** 2\n```\nпочему? なぜ 😀 " + "Long middle part of a pasted text. " * 16,
    "Please summarise what 小王 said:\n他说明天不来了。\nThanks",
    " ",
)
"""Texts that hold a little of everything that is read."""

_PER_CHARACTER: Final = len(CJK_SIZES)
"""Features that a character can give at most: an n-gram of each size. A word gives three, and its blank none."""

_PER_ASCII: Final = 2
"""Without Han: a word and a pair for every two characters, a stem for every six."""

COLUMNS_MAX: Final = 512
"""The widest row that is added up. An artefact of ours has some 130."""

WIDTH: Final = 24
"""Columns of a row of weights that `Judge` adds up: intents, heads, their mean, and empty ones to fill registers."""

TEXT_MAX: Final = HEAD_CHARS + TAIL_CHARS + 1
"""The longest selection: two parts and a line break between them."""

COMPILED: Final = "compiled"
NOT_BUILT: Final = "not built"
OUTDATED: Final = "built from other sources"

Singles: TypeAlias = npt.NDArray[np.float32]
Buckets: TypeAlias = npt.NDArray[np.int64]
Places: TypeAlias = npt.NDArray[np.int32]
Scanning: TypeAlias = Callable[[str], Scan]
Finder: TypeAlias = Callable[[str], bool]


def _figures() -> dict[str, int]:
    """What the kernel has to know besides tables."""
    return {
        "latin": alphabet.LATIN,
        "accented": alphabet.LATIN_ACCENTED,
        "digit": alphabet.DIGIT,
        "hangul": alphabet.HANGUL,
        "other_letter": alphabet.OTHER_LETTER,
        "han": alphabet.HAN,
        "kana": alphabet.KANA,
        "maths": alphabet.MATHS,
        "code": alphabet.CODE,
        "question": alphabet.QUESTION,
        "exclamation": alphabet.EXCLAMATION,
        "quotation": alphabet.QUOTATION,
        "backtick": alphabet.BACKTICK,
        "backslash": alphabet.BACKSLASH,
        "bracket": alphabet.BRACKET,
        "slash": alphabet.SLASH,
        "word_kinds": alphabet.WORD_KINDS,
        "kinds": alphabet.KINDS,
        "stem": scanning.STEM_CHARS,
        "at_ends": scanning.CJK_NEAR,
        "everywhere": scanning.CJK_EVERYWHERE,
        "sizes": CJK_SIZES[-1],
        "action_words": scanning.ACTION_WORDS,
        "action_pairs": scanning.ACTION_PAIRS,
        "action_mask": language.ACTION_MASK,
        "english_mark": language.ENGLISH_MARK,
        "foreign_mark": language.FOREIGN_MARK,
        "opening_latin": language.OPENING_LATIN,
        "instruction_min": folding.INSTRUCTION_CHARS_MIN,
        "instruction_max": folding.INSTRUCTION_CHARS_MAX,
        "last_line_max": folding.LAST_LINE_CHARS_MAX,
        "quotes_max": folding.QUOTED_PAIRS_MAX,
        "anchor_words": anchors.ANCHOR_WORDS,
        "anchor_cjk": anchors.ANCHOR_CJK,
        "bucket_bits": anchors.BUCKET_BITS,
        "latin_per_han": language.LATIN_PER_HAN,
        "accents_max": language.ACCENTS_MAX,
    }


def reader_by(built: ModuleType) -> Any:  # noqa: ANN401 # a type of C has no other one
    """The tables that texts are read by, in the hands of C."""
    return built.Reader(
        kinds=alphabet.KIND_TABLE,
        folds=alphabet.FOLD_TABLE,
        hints=HINTS,
        edge=folding.BY_DISTANCE,
        figures=_figures(),
        seeds=(folding.BASE, folding.MIX, anchors.START_SEED, anchors.END_SEED),
        weights=(folding.PAYLOAD_WEIGHT, folding.QUOTED_WEIGHT, folding.GRAIN),
        shares=(language.KANA_SHARE, language.ACCENT_WEIGHT, language.FOREIGN_MARGIN),
        flags=structure.FLAGS,
        languages=language.LANGUAGES,
    )


def scanning_by(built: ModuleType) -> Scanning:
    """`scanning.scan` from C."""
    read = reader_by(built).scan

    def scan(text: str) -> Scan:
        room = (_PER_ASCII if text.isascii() else _PER_CHARACTER) * len(text) + ROOM
        buckets, values = np.empty(room, dtype=np.int64), np.empty(room, dtype=np.float32)
        return Scan(buckets, values, *read(text, buckets, values))

    return scan


def agrees(compiled: Scanning, text: str) -> bool:
    """Whether the kernel and NumPy read the same in a text, to the last bit."""
    return _told(compiled(text)) == _told(scanning.scan(text))


def _told(found: Scan) -> tuple[object, ...]:
    """All that a scan says but for where its features stand."""
    end = found.features + found.anchors
    bits = found.buckets[:end].tobytes(), found.values[: found.features].tobytes()
    functions = found.english, found.foreign, found.opens_in_english
    shown = found.actions, found.line_breaks, found.language, tuple(found.flags)
    return (*bits, found.anchors, tuple(found.counts), *functions, *shown)


def sources() -> str:
    """What the C files beside this one are, in 16 hex characters, as the build tells it to the module.

    They lie there in a wheel, too.
    """
    found = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("_kernel*.[ch]")):
        found.update(path.read_bytes())
    return found.hexdigest()[:16]


def choose(name: str = "classifiers._kernel") -> tuple[ModuleType | None, Scanning | None, str]:
    """The compiled module and its reading, when they can be used, and which of the three states this is."""
    try:
        built = importlib.import_module(name)
        limits = built.TEXT_MAX, built.COLUMNS_MAX, built.WIDTH
        if sources() != built.SOURCES or limits != (TEXT_MAX, COLUMNS_MAX, WIDTH):
            return None, None, OUTDATED
        found = scanning_by(built)
        if not all(agrees(found, text) for text in SPECIMENS):
            return None, None, OUTDATED
    except ModuleNotFoundError:
        return None, None, NOT_BUILT
    except (ImportError, AttributeError, TypeError, ValueError):
        # Whatever another version of it does otherwise: NumPy reads, and the state says why.
        return None, None, OUTDATED
    return built, found, COMPILED


_built, compiled_scan, STATE = choose()


def weigh(buckets: Buckets, values: Singles, places: Places, rows: Singles) -> list[float]:
    """(j,) sum of value times row over the features: `rows` (r, j), `places` say which row a bucket has.

    Row 0 is zeros, and that of every unknown bucket.
    """
    sums: list[float]
    if _built is not None:
        sums, _, _ = _built.weigh(buckets, values, places, rows)
        return sums
    # einsum, not BLAS: no threads, one order of summation, so the same features give the same bits.
    taken = rows.take(places.take(buckets, mode="clip"), axis=0, mode="clip")
    sums = np.einsum("i,ij->j", values, taken).tolist()
    return sums


def weigh_known(buckets: Buckets, values: Singles, places: Places, rows: Singles) -> tuple[list[float], float, float]:
    """`weigh`, and the sums of the squared values of known features (whose place is not 0) and of all."""
    sums: list[float]
    if _built is not None:
        sums, heard_mass, mass = _built.weigh(buckets, values, places, rows)
        return sums, heard_mass, mass
    found = places.take(buckets, mode="clip")
    known = found.nonzero()[0]
    heard = values.take(known)
    sums = np.einsum("i,ij->j", heard, rows.take(found.take(known), axis=0, mode="clip")).tolist()
    return sums, _squares(heard), _squares(values)


def _squares(values: Singles) -> float:
    """The sum of squares, one after the other as the kernel adds them."""
    if not len(values):
        return 0.0
    return float(np.add.accumulate(np.square(values, dtype=np.float64))[-1])


def finder(sayings: tuple[str, ...], *, begin_words: bool = False) -> Finder:
    """What says whether one of the sayings stands in a text; with `begin_words` those of ASCII must begin a word there.

    Sayings are letters alone where words are to begin.
    """
    return finder_by(_built, sayings, begin_words=begin_words)


def finder_by(built: ModuleType | None, sayings: tuple[str, ...], *, begin_words: bool) -> Finder:
    """`finder` by a module, or by Python."""
    if built is not None:
        found: Finder = built.Sayings(sayings, begin_words).within
        return found
    pattern = re.compile("|".join(map(re.escape, sayings)))
    if not begin_words:
        # Searched for one by one in ASCII and all at once elsewhere: each is several times faster there.
        return lambda text: any(map(text.__contains__, sayings)) if text.isascii() else pattern.search(text) is not None

    def begins_word(text: str) -> bool:
        # A pattern that said so would be several times slower: it has no first letters to look for.
        for found in pattern.finditer(text):
            if not text[found.start() - 1 : found.start()].isalnum() or not found[0].isascii():
                return True
        return False

    return begins_word


def reader() -> Any:  # noqa: ANN401 # a type of C has no other one
    """A `Reader` for types of the kernel that read texts themselves. Raises `LookupError` where there is none."""
    if _built is None:
        raise LookupError("there is no compiled kernel: ask `compiled` first")
    return reader_by(_built)


def compiled(name: str) -> Any | None:  # noqa: ANN401 # what is of C has no other type
    """A type or function of the kernel, when it can be used."""
    return None if _built is None else getattr(_built, name)
