"""Which language the instruction is in: English, Chinese, another one, or undetermined.

Where on the path: `scanning.scan` asks once per text (`_kernel_flags.h` has the twin); the answer picks the temperature
and the threshold.

Invariants:
1. Letters decide. No letters: `und`.
2. Chinese is Han without a noticeable share of kana. When Han and Latin meet, the instruction decides: an opening in
   English words before the first Han character is English, else a few Han characters outweigh a lot of pasted code.
3. Between Latin-script languages, function words decide; without any, the text counts as English, because code,
   names and search words look like that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from classifiers.alphabet import HAN, HANGUL, KANA, LATIN, LATIN_ACCENTED, OTHER_LETTER

ENGLISH: Final = "en"
CHINESE: Final = "zh"
OTHER: Final = "other"
UNDETERMINED: Final = "und"
LANGUAGES: Final = (ENGLISH, CHINESE, OTHER, UNDETERMINED)

KANA_SHARE: Final = 0.1
"""Share of kana among Han and kana from which a text counts as Japanese."""

LATIN_PER_HAN: Final = 12
"""Latin letters that one Han character outweighs: a short Chinese question above a page of code stays Chinese."""

OPENING_LATIN: Final = 9
"""Latin letters before the first Han character that make an English opening, if a function word is among them."""

ACTION_MASK: Final = 15
FOREIGN_MARK: Final = 32
ENGLISH_MARK: Final = 16
"""What a byte says of a word: whether it is a function word of one of the two; the low bits are of no matter here."""

ACCENT_WEIGHT: Final = 0.6
ACCENTS_MAX: Final = 8
FOREIGN_MARGIN: Final = 0.8

ENGLISH_WORDS: Final = (
    "the of and to in a is that for it as was with be by on not he i this are or his from at which but have an had "
    "they you were their one all we can her has there been if more when will would who so no what my your me do how "
    "why does did please into about could should some any than then them these those where out up just like give make "
    "write explain translate summarize tell help show find need want get following text sentence between "
    "hello hi hey thanks thank yes its am don isn didn ll ve"
)
FOREIGN_WORDS: Final = (
    "le la les des du et est une que qui dans pour pas sur au aux avec ce cette vous nous je tu il elle sont mais ou "
    "où quand par plus mon ma mes votre être comment quel quelle merci bonjour peux pouvez moi "
    "el los las del y en un una es por con para como más pero sus qué cómo está muy mi tu yo puedes hola gracias "
    "cuando cuándo donde dónde cual cuál quiero sobre este esta hacer "
    "der die das und ist nicht ein eine einen zu den mit von für auf sich dem im auch es ich du sie wir wie was kann "
    "bitte mir mein wenn oder aber zum zur über nach hallo danke schreibe können warum wann "
    "il lo gli di che è non per sono della del nel con una alla più mi ciao grazie puoi perché questo quando dove "
    "a o os da do dos das não um uma é para com por mais como você eu olá obrigado pode qual quais onde "
    "de het een van niet dat voor zijn met op ik je hij maar ook kunt wat hoe "
    "och att det som en på är av jag inte han med för till den hur kan vad "
    "na nie się jest w i do że z jak to co proszę "
    "bir ve bu için ile ne nasıl mi da de çok "
    "và là của không có được cho một những này tôi bạn yang dan di untuk dengan ini itu tidak saya apa bagaimana"
)
"""Function words, and the imperatives that open requests. A word of both lists counts for neither."""


def language_of(counts: Sequence[int], english: int, foreign: int, *, opens_in_english: bool) -> str:
    """One of `LANGUAGES` for a text, from its characters by kind and its function words of English and of others."""
    latin, han, kana = counts[LATIN] + counts[LATIN_ACCENTED], counts[HAN], counts[KANA]
    elsewhere = counts[HANGUL] + counts[OTHER_LETTER]
    east = han + kana
    if not latin + east + elsewhere:
        return UNDETERMINED
    if elsewhere > max(east, latin // 2):
        return OTHER
    if east:
        if kana >= KANA_SHARE * east and east * LATIN_PER_HAN >= latin:
            return ENGLISH if opens_in_english else OTHER
        if han and not opens_in_english and han * LATIN_PER_HAN >= latin:
            return CHINESE
    if not latin:
        return CHINESE if han else OTHER
    strange = foreign + ACCENT_WEIGHT * min(counts[LATIN_ACCENTED], ACCENTS_MAX)
    return OTHER if strange > english + FOREIGN_MARGIN else ENGLISH
