"""Greetings, thanks and apologies around a wish: found and taken off, for a second reading.

Where on the path: `scorer` reads a text that looks like small talk again without its courtesies. They say nothing of
the wish, and a short hard question between "hello" and "thanks a lot" must not go to the cheapest model for them.
Pure, standard library only.

Invariants:
1. Bounded: the text is a selection (see `turns`); at most `CLAUSES_MAX` clauses are taken off at each end, none of them
   longer than `CLAUSE_CHARS_MAX`, then at most `SENTENCES_MAX` sentences. No two of the words that may follow each
   other are the beginning of one another.
2. Only clauses that hold nothing but courtesy are taken off, and sentences that alone look like small talk.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

CLAUSES_MAX: Final = 12
CLAUSE_CHARS_MAX: Final = 80
SENTENCES_MAX: Final = 4
SENTENCE_CHARS_MAX: Final = 160
REST_CHARS_MIN: Final = 8
REST_HAN_MIN: Final = 4
"""A shorter rest is no wish that stands by itself."""

_CLAUSE: Final = re.compile(r"[^,.!?;:\n~，。！？；：～、]*[,.!?;:\n~，。！？；：～、]*\s*")
_SENTENCE: Final = re.compile(r"[^.!?;:\n~。！？；：～]*[.!?;:\n~。！？；：～]*\s*")
_HAN: Final = re.compile("[一-鿿]")

_SAID: Final = (
    r"(?:oh |so |and |well |ok |okay )?(?:hi|hiya|hello|hey|yo"
    r"|greetings|howdy|good (?:morning|afternoon|evening|day))"
    r"(?: (?:there|again|everyone|all|claude|chat ?gpt|gpt|assistant|ai|bot|buddy|friend|dear|team|sir|madam|mate))*"
    r"|dear (?:assistant|ai|sir|madam|all|team|friend)s?(?: or madam)?"
    r"|(?:i )?hope (?:you(?:'re| are| have| had)|this (?:finds you)|all is|your [a-z]{3,9}(?:'s| is)"
    r"|everything is).{0,40}"
    r"|how are you(?: (?:doing|today|doing today))*|nice to (?:meet|see) you(?: again)?|it's me again"
    r"|(?:many |big |huge |so many |a thousand )?(?:thanks?|thank you|thx|ty|cheers|much appreciated|appreciated?)"
    r"(?: (?:you|so|very|much|a|lot|lots|ton|million|bunch|in"
    r"|advance|again|for|your|the|help|time|everything|that|this|yesterday|earlier|today|last"
    r"|all|already|everybody|guys|really|answer|patience))*"
    r"|(?:and )?(?:that|this|it|you) (?:helped|helps|was|were|is|are|'re)(?: (?:me|a|lot|really|so|very|great|perfect"
    r"|awesome|amazing|helpful|useful|the|best|super|brilliant|much|kind|today))+"
    r"|you(?:'re| are| were|'ve been| have been) (?:the best|great|awesome|amazing|so kind|so helpful|a star"
    r"|a lifesaver|wonderful|brilliant)(?: (?:yesterday|lately|today|as always))?"
    r"|(?:i )?(?:would |'d )?(?:really |greatly |much )?appreciate (?:it"
    r"|your help|any help)(?: (?:a lot|very much|so much))?"
    r"|(?:i'm |i am )?(?:so )?sorry (?:to|for|about) (?:bother"
    r"|disturb|trouble|the (?:bother|trouble|disturbance)).{0,24}"
    r"|(?:no rush|take your time|when you have (?:time|a (?:moment"
    r"|minute))|if you don't mind|no hurry|at your leisure)"
    r"|(?:i have|i've got|i got|got|just|here is|here's|quick"
    r"|another|one|one more|a)(?: (?:got|a|an|one|more|last|other"
    r"|another|small|little|quick|short|new|question|favou?r|thing"
    r"|for|you|to|ask|now|today))*(?: (?:question|one|thing|favou?r))?"
    r"|(?:best|kind|warm)?(?: )?(?:regards|wishes)|have a (?:nice"
    r"|great|good|lovely) (?:day|one|evening|weekend).{0,12}"
    r"|bye(?: bye| for now)?|see you(?: later| soon)?|please and thank you"
    r"|pls|please|well done|good job|great work|perfect"
)
_SAID_ZH: Final = (
    r"(?:哈喽|哈啰|嗨|嘿|你好|您好|大家好|早|早上好|上午好|下午好|晚上好|在吗|在不在|在么|老师好|老师您好|亲|亲爱的|朋友)"
    r"(?:呀|啊|哦|呢|哈|吗|，)*|好久不见|辛苦(?:您|你)?(?:了|啦)?|麻烦(?:您|你)?(?:了|啦)?|打扰(?:您|你)?(?:一下)?(?:了|啦)?|不好意思"
    r"|抱歉(?:打扰)?(?:了)?|又来(?:打扰|麻烦)(?:你|您)(?:了|啦)?|(?:非常|十分|万分|太|真的?|多|好|先|提前|再次|昨天|上次)*(?:谢谢|感谢|多谢|谢了|谢啦|感恩)+"
    r"(?:你|您|啦|了|哦|呀|啊|老师|大神|大佬|亲|各位|的?帮(?:忙|助)|的?回答|指教|指点|支持|！|～)*"
    r"|(?:我)?(?:想|要)?(?:再)?(?:请教|请问|问|咨询)(?:您|你)?(?:一下|一个|几个|个|下)*(?:小)?(?:问题|事情|事)?(?:哈|呀|啊)?"
    r"|(?:我)?(?:还)?有(?:一)?个(?:小)?(?:问题|事)(?:想)?(?:请教|问|咨询)?(?:一下|下|您|你)*|刚才(?:的)?(?:回答|你)?(?:真的?|可)?(?:帮了|太有用|很有用|解决)"
    r".{0,10}|(?:你|您)(?:真|太|最|可真)(?:棒|好|厉害|牛|强|贴心|给力)(?:了|啦|的)*|太(?:棒|好|感谢|厉害|给力)(?:了|啦)|不急|慢慢来|有空再?(?:说|回)?"
    r"|祝(?:您|你).{0,12}|再见|拜拜|回头见|好的?|嗯+|哈+|嘻+|那个|是这样的?|事情是这样的?|再(?:请教|问)(?:您|你)?一个(?:问题)?"
)
_COURTESY: Final = re.compile(rf"(?:(?:and|oh|so|but|well|ok|okay) )?(?:{_SAID})|{_SAID_ZH}", re.IGNORECASE)
_STOPS: Final = " \t\r\n,.!?;:~，。！？；：～、…)(（）😀😊🙏❤️👍🌹😄🙂😁"


def uncourteous(text: str) -> str:
    """The text without the courtesies at its ends; the text itself where there are none, or where nothing is left."""
    clauses = [one for one in _CLAUSE.findall(text.strip()) if one]
    first, last = 0, len(clauses)
    while first < min(last, CLAUSES_MAX) and _is_courtesy(clauses[first]):
        first += 1
    floor = max(first, last - CLAUSES_MAX)
    while last > floor and _is_courtesy(clauses[last - 1]):
        last -= 1
    rest = "".join(clauses[first:last]).strip()
    says = len(rest) >= REST_CHARS_MIN or len(_HAN.findall(rest)) >= REST_HAN_MIN
    return rest if says and (first or last < len(clauses)) else text


def without_sentences(text: str, is_talk: Callable[[str], bool]) -> str:
    """The text without the sentences at its ends of which `is_talk` holds, `SENTENCES_MAX` at each end at most.

    The text itself where there are none, or where nothing would be left.
    """
    sentences = [one for one in _SENTENCE.findall(text.strip()) if one]
    first, last = 0, len(sentences)
    while first < min(last - 1, SENTENCES_MAX) and _is_talk(sentences[first], is_talk):
        first += 1
    floor = max(first + 1, last - SENTENCES_MAX)
    while last > floor and _is_talk(sentences[last - 1], is_talk):
        last -= 1
    rest = "".join(sentences[first:last]).strip()
    says = len(rest) >= REST_CHARS_MIN or len(_HAN.findall(rest)) >= REST_HAN_MIN
    return rest if says and (first or last < len(sentences)) else text


def _is_talk(sentence: str, is_talk: Callable[[str], bool]) -> bool:
    bare = sentence.strip(_STOPS)
    return not bare or (len(bare) <= SENTENCE_CHARS_MAX and is_talk(bare))


def _is_courtesy(clause: str) -> bool:
    bare = " ".join(clause.replace("’", "'").strip(_STOPS).split())
    return not bare or (len(bare) <= CLAUSE_CHARS_MAX and _COURTESY.fullmatch(bare) is not None)
