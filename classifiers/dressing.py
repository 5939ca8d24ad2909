"""What can be put around or into a prompt to make it look dearer than it is: found and taken off, for a second reading.

Where on the path: `scorer` reads a text again without its dressing when it looks like a dear one, or like nothing, and
keeps that reading only if it is sure of something cheaper. So nothing here can make a request dearer, and an everyday
text never comes here. Pure. The features know nothing of it, so weights stay valid.

Dressing is
- disguise: characters that nobody sees, marks on plain letters, Cyrillic letters in Latin words;
- a pair of tags around everything;
- at either end: talk about how to answer or who should, lines of words that are no natural wording, rows of signs;
- loosely, because it may be meant: code, formulas, a few bare words, and a run of keywords on the line of the wish.

Invariants:
1. Bounded: the text is a selection (see `turns`). Only what stands at its ends is looked at, `LINES_MAX` lines and
   `LOOKED_AT` characters of each at a time, further in only while dressing comes off.
2. What is left is never less than `LEFT_CHARS_MIN` characters, or `LEFT_HAN_MIN` of Chinese; else nothing is taken off.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from operator import eq
from typing import Final

from classifiers.sayings import GRAMMAR, is_about_answers, may_tell, signs, tells_how, wording

LEFT_CHARS_MIN: Final = 8
LEFT_HAN_MIN: Final = 4
"""A shorter rest is no wish that stands by itself."""

LOOKED_AT: Final = 120
"""Characters of a line, at the end where it stands, that are looked at."""

LINES_MAX: Final = 12
"""Lines, or sentences of a line, that are taken off at each end."""

LINE_WORDS_MIN: Final = 6
"""Fewer words may be a title, a name or a search."""

SCRAP_WORDS_MIN: Final = 3
"""A few small words without grammar may be a list, too: that is to be taken off loosely."""

LIST_BIAS: Final = 3.1
LIST_GRAMMAR: Final = -5.5
LIST_NEIGHBOURS: Final = 31.0
LIST_TURNS: Final = -8.8
LIST_CAPITALS: Final = -7.4
"""The logit of "no natural wording" of an English line. Of its words, which share is grammar, is the word before again,
follows grammar and is none or the other way round, begins with a capital: people turn from one to the other all the
time. Fitted on 4,869 first and last lines of the corpus and 1,389 lines of drawn, repeated and pulled words."""

LIST_FIRMLY: Final = 1.0
LIST_LOOSELY: Final = -1.2
LIST_ROUGHLY: Final = 1.0
"""From here on a line is a list (firmly: one natural line in a hundred); so far below that, stops can't matter."""

SCRAPS_FEW: Final = 2
SCRAPS_MIN: Final = 6
SCRAP_HAN_MEAN: Final = 3.0
SCRAP_HAN_MAX: Final = 6
SAID_TWICE_MAX: Final = 16
"""A Chinese line in so many scraps, so short, is no sentence; in a few it may be none, nor may a short one that says a
word twice in a row."""

RUN_MIN: Final = 7
"""So many words without grammar, figures and stops on the line of the wish are keywords."""

RUN_HAN_MAX: Final = 4

SIGN_SHARE_MIN: Final = 0.25
"""A line with so many signs among its visible characters is code, a formula or a row of ornaments."""

POINTING_CHARS_MAX: Final = 60
"""A rest that is no longer than this and says "this" or "below" is about what would be cut off."""

_INVISIBLE: Final = re.compile("[\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufe00-\ufe0f\ufeff]")
_STRANGE: Final = re.compile(_INVISIBLE.pattern[:-1] + "\u0300-\u036f\u0400-\u04ff]")
_MARK_ON_LATIN: Final = re.compile("(?<=[A-Za-z])[\u0300-\u036f]+|(?<=[一-鿿])[\u0300-\u036f]+")
_MIXED_WORD: Final = re.compile("[A-Za-z][\u0400-\u04ff]|[\u0400-\u04ff][A-Za-z]")
_LOOK_ALIKES: Final = str.maketrans("аеосрхуіАВЕНКМОРСТХ", "aeocpxyiABEHKMOPCTX")
_WRAPPED: Final = re.compile(r"<([A-Za-z][\w-]{0,39})(?:\s[^<>]{0,80})?>(.*)</\1>", re.DOTALL)
_BRACKETS: Final = r"[\[【]\w{1,20}[\]】][^\n]{0,200}?[\[【]/\w{1,20}[\]】]|[\[【][^\n]{1,120}?[\]】]"
_SENTENCE: Final = re.compile(_BRACKETS + r"|[^\n.!?。！？;；]+[.!?。！？;；]*|[.!?。！？;；]+")
_ENDS_OF_SENTENCES: Final = ".!?。！？;；"

# fmt: off
_OPENINGS: Final = (" ", "\t", "def ", "class ", "import ", "return ", "const ", "let ", "var ", "public ",
                    "traceback (")
# fmt: on
_CALL: Final = re.compile(r"\w\(\w{0,40}\)")
_QUERIES: Final = ("select ", "insert ", "update ", "delete ")
_QUERY: Final = re.compile(r"\bselect\b.{1,80}?\bfrom\b|\binsert into\b|\bupdate\b.{1,80}?\bset\b|\bdelete from\b")
"""Statements of code outside a fence, in lower case."""

_POINTING: Final = re.compile(
    r"\b(?:this|these|that|here|it|following|below|above)\b|[这此]|以下|下面|下列|上述|上面|[:：]$"
)
_POINTING_AT_LINES: Final = re.compile(
    r"\b(?:these|those|following|below|above)\b|以下|下面|下列|上述|上面|这些|[:：]$"
)
_LABELLED: Final = re.compile(r"[(（]?(?:[A-Za-z\d]{1,2}[.)）、:：]|[A-H]\s)|[-–•·]\s")
_FENCES: Final = re.compile(r"```|\$\$")
_WORDY: Final = re.compile(r"[^\W_]")
_HAN: Final = re.compile("[一-鿿]")
_SEPARATORS: Final = " ,，、;；"
_SAID_TWICE: Final = re.compile("([一-鿿]{2,3})\\1")
_BETWEEN_SCRAPS: Final = re.compile(r"[\s,，、;；/]+")
_OPERATOR: Final = re.compile(r"[()\[\]{}<>=+*/\\^$|_#@%&~]")
_FIGURE: Final = re.compile(_OPERATOR.pattern + r"|(?<![A-Za-z])\d")
_PLAIN: Final = str.maketrans(dict.fromkeys('.,;:!?"“”=-[]', " "))
_SCRAP: Final = re.compile(r"[^\s，、；]+")
_BETWEEN: Final = " \t\n,，、;；"
_HAN_GRAMMAR: Final = re.compile("[的了吗呢吧我你您他她它们这那是在把被请帮给让和与就也都还要想会能怎什哪谁为对从到用]")


def undressed(text: str) -> Iterator[tuple[str, bool]]:
    """The text without its dressing: firmly (True), and then loosely (False) where that is less.

    Nothing for a text without dressing, nor where too much would go. The second is worked out when it is asked for.
    """
    bare = revealed(text).strip()
    if bare[:1] == "<":
        wrapped = _WRAPPED.fullmatch(bare)
        if wrapped is not None:
            bare = wrapped[2].strip()
    lines = bare.split("\n")
    kinds = _Kinds(alone=len(lines) == 1)
    left = text.strip()
    for loosely in (False, True):
        taken = _peel(lines, kinds, loosely=loosely)
        bare = "\n".join(lines).strip()
        pointing = _POINTING if taken & MATERIAL else _POINTING_AT_LINES if taken & MAYBE_LISTED else None
        if pointing is not None and len(bare) <= POINTING_CHARS_MAX and pointing.search(bare.lower()) is not None:
            return
        if bare != left and _says_something(bare):
            left = bare
            yield bare, not loosely
        if not any(kinds.values()):
            return


def revealed(text: str) -> str:
    """The text as a reader sees it: no invisible characters, no marks on plain letters, no look-alike script."""
    if text.isascii() or _STRANGE.search(text) is None:
        return text
    seen = _MARK_ON_LATIN.sub("", _INVISIBLE.sub("", text))
    return seen.translate(_LOOK_ALIKES) if _MIXED_WORD.search(seen) else seen


def ends(text: str) -> Iterator[tuple[str, str, bool]]:
    """On trial: a text without its first block, then without its last one.

    Gives what is left, what was cut off, and whether that may be talk about the answer. A block is a paragraph, or a
    line of a text of one paragraph, or a sentence of a text of one line. Nothing for a text of one block.
    """
    bare = text.strip()
    for mark in ("\n\n", "\n"):
        if mark in bare:
            first, _, behind = bare.partition(mark)
            ahead, _, last = bare.rpartition(mark)
            break
    else:
        opened, begin = _SENTENCE.match(bare), _last_sentence(bare)
        if opened is None or begin == 0:
            return
        first, behind = opened[0], bare[opened.end() :]
        ahead, last = bare[:begin], bare[begin:]
    for rest, cut in ((behind, first), (ahead, last)):
        if _says_something(rest.strip()):
            yield rest.strip(), cut.strip(), is_about_answers(cut[:LOOKED_AT].lower())


def _says_something(text: str) -> bool:
    return len(text) >= LEFT_CHARS_MIN or len(_HAN.findall(text)) >= LEFT_HAN_MIN


class _Kinds(dict[str, int]):
    """What the lines of one text are, each looked at once. `alone`: there is but one."""

    __slots__ = ("alone",)

    def __init__(self, *, alone: bool) -> None:
        self.alone = alone

    def __missing__(self, line: str) -> int:
        found = self[line] = kind_of(line, alone=self.alone)
        return found


def _peel(lines: list[str], kinds: _Kinds, *, loosely: bool) -> int:
    """Take the dressing off both ends of a text, in place; what of it may have been meant, a sum of kinds."""
    gone = LISTED | MAYBE_LISTED | MATERIAL if loosely else LISTED
    meant = 0
    taken = ""
    for behind in (False, True):
        place = -1 if behind else 0
        for _ in range(LINES_MAX):
            line = lines[place]
            looked = line if len(line) <= LOOKED_AT else line[-LOOKED_AT:] if behind else line[:LOOKED_AT]
            kind = kinds[looked]
            left = _without_talk(line, behind=behind) if kind & TALK else line
            if left is line and loosely and kind & (RUN_BEHIND if behind else RUN_AHEAD):
                left = _without_run(line, behind=behind)
            if left != line and not (kind & gone and len(lines) > 1 and _may_be_list(left.lower().split())):
                lines[place] = left
            elif len(lines) == 1:
                break
            elif kind & FENCE:
                if not loosely or not _cut_block(lines, behind=behind):
                    break
                meant |= MATERIAL
            elif (kind & gone and (looked is line or kinds[line] & gone)) or (taken and line.strip() in taken):
                # A line that was cut off when the text was selected repeats one before it.
                taken += line
                del lines[place]
                meant |= 0 if kind & LISTED else kind
            else:
                break
    return meant


def _cut_block(lines: list[str], *, behind: bool) -> bool:
    """Cut off the block at one end, or the mark of one that stands open; false where nothing else would be left."""
    order = range(len(lines) - 1, -1, -1) if behind else range(len(lines))
    marks, count = 0, 1
    for taken, place in enumerate(order, start=1):
        marks += len(_FENCES.findall(lines[place]))
        if marks > 1:
            count = taken
            break
    if count == len(lines):
        return False
    del lines[slice(len(lines) - count, None) if behind else slice(count)]
    return True


LISTED: Final = 1
MAYBE_LISTED: Final = 2
MATERIAL: Final = 4
FENCE: Final = 8
TALK: Final = 16
RUN_AHEAD: Final = 32
RUN_BEHIND: Final = 64
"""What a line may be: no wording at all; possibly none; code, a formula or signs; the mark of a block; and where talk
about the answer or a run of keywords is worth looking for."""


def kind_of(line: str, *, alone: bool = False) -> int:
    """What a line is, a sum of the kinds above; of one that is `alone` only what may stand in it besides a wish."""
    low = line.lower()
    words = low.split()
    plain = line.isascii()
    kind = TALK if may_tell(low) else 0
    if words and _may_run(words[0], words[: RUN_MIN - 1], words[0][: RUN_HAN_MAX + 1]):
        kind |= RUN_AHEAD
    if words and _may_run(words[-1], words[1 - RUN_MIN :], words[-1][-RUN_HAN_MAX - 1 :]):
        kind |= RUN_BEHIND
    chinese = not plain and _HAN.search(line) is not None
    return kind if alone else kind | _stuff(line, low, words, chinese=chinese)


def _may_run(word: str, nearest: list[str], edge: str) -> bool:
    """Whether keywords may begin with a word: none of those nearest is grammar, or its first scrap is short."""
    if word.isascii():
        return GRAMMAR.isdisjoint(nearest)
    return len(word) <= RUN_HAN_MAX or any(map(edge.__contains__, _SEPARATORS))


def _stuff(line: str, low: str, words: list[str], *, chinese: bool) -> int:
    """Of what a line consists, if not of wording."""
    kind = 0
    if chinese:
        kind = _scraps(line)
    elif len(words) < LINE_WORDS_MIN or _may_be_list(words):
        # Glued to their stops words are told well enough to see that most lines are no list.
        kind = _wording(line, low.translate(_PLAIN).split())
    if "```" in line or "$$" in line:
        kind |= FENCE
    found = signs(line)
    material = found > 0 and found >= SIGN_SHARE_MIN * (len(line) - line.count(" "))
    # An answer to choose, or a step, never stands for nothing.
    if (material or _is_code(low)) and _LABELLED.match(line) is None:
        kind |= MATERIAL
    return kind


def _is_code(low: str) -> bool:
    """Whether a line in lower case is a statement, or a line of a block of them."""
    return (
        low.startswith(_OPENINGS)
        or "error:" in low
        or ("(" in low and _CALL.search(low) is not None)
        or (any(map(low.__contains__, _QUERIES)) and _QUERY.search(low) is not None)
    )


def _wording(line: str, words: list[str]) -> int:
    """How surely a line is a row of ornaments or a list of words rather than something that people say."""
    count = len(words)
    if count < LINE_WORDS_MIN:
        if not words or _WORDY.search(line) is None:
            return LISTED
        # A line that says a word twice says nothing; a few small words may. One or two may be the wish, or its subject.
        is_scrap = any(map(eq, words, words[1:])) or (count >= SCRAP_WORDS_MIN and line.islower())
        if not is_scrap or line[-1] in ":?" or not GRAMMAR.isdisjoint(words):
            return 0
        return MAYBE_LISTED if _OPERATOR.search(line) is None and _LABELLED.match(line) is None else 0
    logit = _list_logit(words)
    if logit < LIST_LOOSELY:
        return 0
    logit += LIST_CAPITALS * sum(word[0].isupper() for word in line.split()) / count
    if logit < LIST_LOOSELY:
        return 0
    if _OPERATOR.search(line) is not None:
        return 0 if _LABELLED.match(line) is not None else MAYBE_LISTED | MATERIAL
    # Figures are listed for a reason more often than words are.
    return MAYBE_LISTED if logit < LIST_FIRMLY or _FIGURE.search(line) is not None else LISTED


def _may_be_list(words: list[str]) -> bool:
    return len(words) >= LINE_WORDS_MIN and _list_logit(words) >= LIST_LOOSELY - LIST_ROUGHLY


def _list_logit(words: list[str]) -> float:
    grammar, turns, repeats = wording(words, GRAMMAR)
    logit: float = LIST_GRAMMAR * grammar + LIST_TURNS * turns
    logit += LIST_NEIGHBOURS * repeats
    return LIST_BIAS + logit / len(words)


def _scraps(line: str) -> int:
    """How surely a Chinese line that is cut into short pieces is a list of words."""
    scraps = _BETWEEN_SCRAPS.split(line.strip(_BETWEEN + ".。!！"))
    if len(scraps) < SCRAPS_FEW:
        says_twice = len(line) <= SAID_TWICE_MAX and _SAID_TWICE.search(line) is not None
        return MAYBE_LISTED if says_twice and _HAN_GRAMMAR.search(line) is None else 0
    if max(map(len, scraps)) > SCRAP_HAN_MAX or sum(map(len, scraps)) > SCRAP_HAN_MEAN * len(scraps):
        return 0
    if _FIGURE.search(line) is not None:
        return MAYBE_LISTED if _OPERATOR.search(line) is None and _LABELLED.match(line) is None else 0
    return LISTED if len(scraps) >= SCRAPS_MIN else MAYBE_LISTED


def _without_talk(line: str, *, behind: bool) -> str:
    """A line without the sentences at one end that talk about how to answer."""
    if behind:
        begin = _last_sentence(line)
        while line and tells_how(line[begin:]):
            line = line[:begin]
            begin = _last_sentence(line)
        return line.rstrip()
    begin = 0
    for sentence in _SENTENCE.finditer(line):
        if not tells_how(sentence[0]):
            break
        begin = sentence.end()
    return line[begin:].lstrip()


def _last_sentence(line: str) -> int:
    """Where the last sentence of a line begins: 0 when it is the only one."""
    if "[" in line or "【" in line:
        begin = 0
        for sentence in _SENTENCE.finditer(line):
            begin = sentence.start()
        return begin
    # Without brackets a sentence is what stands between stops, and those behind it.
    return max(map(line.rstrip(_ENDS_OF_SENTENCES).rfind, _ENDS_OF_SENTENCES)) + 1


def _without_run(line: str, *, behind: bool) -> str:
    """A line without the run of keywords at one end; the line where there is none."""
    looked = line[-LOOKED_AT:] if behind else line[:LOOKED_AT]
    scraps = list(_SCRAP.finditer(looked))
    if len(scraps) < RUN_MIN:
        return line
    if behind:
        scraps.reverse()
    han = _HAN.search(scraps[0][0]) is not None
    count = 0
    for scrap in scraps:
        if not _is_keyword(scrap[0], han=han):
            # The word before grammar goes with it: the verb of a wish, or what a question is about.
            count -= scrap[0] in GRAMMAR
            break
        count += 1
    if count < RUN_MIN or count == len(scraps):
        return line
    if behind:
        return line[: len(line) - len(looked) + scraps[count - 1].start()].rstrip(_BETWEEN)
    return line[scraps[count - 1].end() :].lstrip(_BETWEEN)


def _is_keyword(word: str, *, han: bool) -> bool:
    """Whether a word may be one of a run: of one script, no grammar, no name, no figure, no stop behind it."""
    if han:
        return len(word) <= RUN_HAN_MAX and _HAN.match(word) is not None and _HAN_GRAMMAR.search(word) is None
    return word.isascii() and word.isalpha() and word.islower() and word not in GRAMMAR
