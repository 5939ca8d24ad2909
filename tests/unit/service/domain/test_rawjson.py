"""Spans and splices of raw JSON: nothing but the edited members moves, whatever the body looks like."""

import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.api.chat_body import parse_object
from service.domain import rawjson
from service.domain.rawjson import DEPTH_MAX, TOKENS_MAX, VALUES_MAX, RawJsonError, objects_in, scan
from service.errors import InvalidRequest

BLANKS = st.text(alphabet=" \t\r\n", max_size=3)
TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
MEMBERS = st.lists(st.tuples(TEXT, VALUES), max_size=6, unique_by=lambda pair: pair[0])


def spelled(draw, text):
    """A JSON string with some of its characters escaped at will."""
    pieces = []
    for character in text:
        if draw(st.booleans()) and ord(character) < 0x10000:
            pieces.append(f"\\u{ord(character):04x}")
        else:
            pieces.append(json.dumps(character, ensure_ascii=False)[1:-1])
    return '"' + "".join(pieces) + '"'


def written(draw, value):
    """JSON text of a value with random blanks and escapes."""
    if isinstance(value, str):
        return spelled(draw, value)
    if isinstance(value, dict):
        members = [
            f"{draw(BLANKS)}{spelled(draw, key)}{draw(BLANKS)}:{draw(BLANKS)}{written(draw, one)}{draw(BLANKS)}"
            for key, one in value.items()
        ]
        return "{" + (",".join(members) or draw(BLANKS)) + "}"
    if isinstance(value, list):
        items = [f"{draw(BLANKS)}{written(draw, one)}{draw(BLANKS)}" for one in value]
        return "[" + (",".join(items) or draw(BLANKS)) + "]"
    return json.dumps(value)


JSONISH = st.lists(
    st.sampled_from(
        ["{", "}", "[", "]", ":", ",", '"', '"a"', '"b"', "\\", '\\"', '"\\u0061"', "1", "-", "1e400", "true", "null",
         " ", "\n", "\x00", "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"), "NaN", "/**/", "9" * 400]
    ),
    max_size=14,
).map("".join)  # fmt: skip


@st.composite
def bodies(draw):
    """(the parsed object, its bytes)."""
    value = dict(draw(MEMBERS))
    return value, (draw(BLANKS) + written(draw, value) + draw(BLANKS)).encode()


@given(bodies())
def test_values_are_the_callers_bytes(body):
    """Every top-level member is found, under its decoded name, with the bytes of its value and no blanks."""
    value, raw = body
    found = scan(raw)
    assert list(found.members) == list(value)
    for key, one in value.items():
        assert orjson.loads(found.value(key)) == one
        assert found.value(key) == found.value(key).strip()
    assert found.value("\x00no such key") is None


@given(bodies(), st.data())
def test_an_edit_changes_what_it_names_and_no_other_byte(body, data):
    """Parsed, it is the expected object; and with the edited members cut out, both texts hold the same kept bytes."""
    value, raw = body
    names = data.draw(st.lists(st.sampled_from([*value, "new", "other"]), unique=True) if value else st.just(["new"]))
    changes = {name: data.draw(st.none() | VALUES.map(lambda one: json.dumps(one).encode())) for name in names}
    edited = scan(raw).edited(changes)
    expected = {key: one for key, one in value.items() if key not in changes or changes[key] is not None}
    expected |= {key: json.loads(change) for key, change in changes.items() if change is not None}
    assert orjson.loads(edited) == expected
    before, after = scan(raw), scan(edited)
    for key, (start, _, end) in before.members.items():
        if key not in changes:
            new_start, _, new_end = after.members[key]
            assert edited[new_start:new_end] == raw[start:end]
    if not any(key in value and change is None for key, change in changes.items()):
        # Nothing was removed: what is left after taking out the edits is the caller's text, blanks included.
        rest = after.edited({key: before.value(key) for key in changes if key in value})
        added = [key for key in changes if key not in value and changes[key] is not None]
        assert scan(rest).edited(dict.fromkeys(added)) == raw


def quickly(raw):
    """The quick way alone."""
    return rawjson._quickly(raw, rawjson._without_escapes(raw))


def patiently(raw):
    """The patient way alone."""
    return rawjson._patiently(raw, rawjson._without_escapes(raw))


@pytest.mark.parametrize("escape", [b'\\"', b"\\\\", b"\\n", b"\\u4f60", b'\\\\\\"'])
def test_no_expression_walks_over_escapes(monkeypatch, escape):
    """Two million pairs in one string behind thousands of others would hold every thread for a tenth of a second."""
    walked = []

    class Watched:
        def finditer(self, text):
            walked.append(text)
            return token.finditer(text)

    token = rawjson._TOKEN
    monkeypatch.setattr(rawjson, "_TOKEN", Watched())
    raw = b'{"a":[' + b",".join([b'"b"'] * 4_200) + b'],"c\\"":"' + escape * 1_000 + b'","d":"e"}'
    found = scan(raw)
    assert list(found.members) == ["a", 'c"', "d"]
    assert found.value('c"') == b'"' + escape * 1_000 + b'"'
    assert [b"\\" in text for text in walked] == [False]


@given(bodies() | JSONISH.map(lambda text: (None, ('{"k":' + text).encode("latin-1"))))
def test_the_quick_way_finds_what_the_patient_one_does(body):
    """It may decline, and then it has no say; it never finds anything else, and an ordinary body is not declined."""
    value, raw = body
    quick = quickly(raw)
    assert quick is None or quick == patiently(raw).members
    if value and b"\\" not in raw:
        assert quick is not None


@pytest.mark.parametrize("blanks", [0, 1, 31, 32, 33, 1_000])
def test_blanks_around_a_value_are_none_of_it(blanks):
    """However many: they are looked for near its ends first."""
    gap = b" \n" * blanks
    raw = b'{"a":' + gap + b'"x y"' + gap + b',"b":' + gap + b"1" + gap + b"}"
    for members in (quickly(raw), patiently(raw).members):
        assert [raw[start:end] for _, start, end in members.values()] == [b'"x y"', b"1"]


@pytest.mark.parametrize(
    ("raw", "takes"),
    [
        (b'{"a":"say \\"hi\\" \\\\"}', True),
        (b'{"a\\n":1}', False),
        (b'{"a":[[' + b'"x",' * 2_100 + b'"y"]]}', False),
        (b'{"a":[' + b"{}," * 2_100 + b"{}]}", False),
        (b'{"a":' + b"[" * DEPTH_MAX + b"]" * DEPTH_MAX + b',"b":1}', False),
        (b'{"a":[' + b'[{},{}],"",' * 700 + b"[]]}", False),
        (b'{"a":1}}', False),
        (b'{"a":1,"a":2}', False),
        (b"[]", False),
        (b'{"a":1', False),
    ],
)
def test_what_the_quick_way_takes(raw, takes):
    """Ordinary bodies, with quotes inside their strings; the rest is for the one that can say what is wrong."""
    assert (quickly(raw) is not None) == takes


def test_removing_takes_one_comma_along():
    """First, middle, last, all: always valid JSON, the blanks of the others stay."""
    raw = scan(b' {\n  "a": 1,\n  "b": 2,\n  "c": 3\n}\n')
    assert raw.edited({"a": None}) == b' {\n  "b": 2,\n  "c": 3\n}\n'
    assert raw.edited({"b": None}) == b' {\n  "a": 1,\n  "c": 3\n}\n'
    assert raw.edited({"c": None}) == b' {\n  "a": 1,\n  "b": 2\n}\n'
    assert orjson.loads(raw.edited(dict.fromkeys("abc"))) == {}
    assert raw.edited({"a": None, "b": None, "c": None, "d": b"4"}).split() == [b'{"d":4', b"}"]
    assert scan(b"{}").edited({"x": b"1", "y": b"2"}) == b'{"x":1,"y":2}'


@pytest.mark.parametrize(
    ("body", "member"),
    [
        (b'{"a":1,"a":2}', "a"),
        (b'{"a":1,"\\u0061":2}', "a"),
        (b'{"\xe4\xb8\xad":1,"\\u4e2d":2}', "\u4e2d"),
        (b'{"m":[{"x":{"k":1,"\\u006b" :2}}]}', "m"),
        (b'{"a/b":1,"a\\/b":2}', "a/b"),
        (b'{"m":{"":1,"":2}}', "m"),
    ],
)
def test_duplicate_keys_are_refused_at_every_depth(body, member):
    """Also when one of them is spelled with escapes; the member it lies in is named."""
    with pytest.raises(RawJsonError, match="appears twice") as refusal:
        scan(body)
    assert refusal.value.member == member


def test_the_same_key_in_two_objects_is_fine():
    """Siblings and levels have their own keys; strings that look like keys are none."""
    body = b'{"a":{"a":[{"a":1},{"a":2}]},"b":["a","a"],"c":"\\"a\\":1,\\"a\\":2"}'
    assert list(scan(body).members) == ["a", "b", "c"]


def test_depth_has_a_limit():
    """`DEPTH_MAX` levels pass, one more is refused with the member it is in."""
    fits = b'{"a":' + b"[" * (DEPTH_MAX - 1) + b"]" * (DEPTH_MAX - 1) + b"}"
    assert scan(fits).members
    with pytest.raises(RawJsonError, match="deeper") as refusal:
        scan(b'{"a":' + b"[" * DEPTH_MAX + b"]" * DEPTH_MAX + b"}")
    assert refusal.value.member == "a"


def test_tokens_have_a_limit():
    """Exactly `TOKENS_MAX` keys and brackets pass; strings and numbers in lists are not counted."""
    room = TOKENS_MAX - 5  # the outer braces, one key, the list's brackets
    fits = b'{"a":[' + b",".join([b"[]"] * (room // 2)) + b"]}"
    assert scan(fits).members
    with pytest.raises(RawJsonError, match="more than"):
        scan(b'{"a":[' + b",".join([b"[]"] * (room // 2 + 1)) + b"]}")
    with pytest.raises(RawJsonError, match="more than"):  # with a few strings between them
        scan(b'{"a":[' + b",".join([b"[]" + b",[]" * 99 + b',""'] * (room // 200 + 1)) + b"]}")
    assert scan(b'{"a":[' + b",".join([b'"s",1'] * TOKENS_MAX) + b"]}").members


def test_values_have_a_limit():
    """Exactly `VALUES_MAX` commas outside of strings pass, however many stand in strings, escaped or not."""
    prose = b'"one, two, \\", three,,,"'
    rest = b",".join([b"0"] * (VALUES_MAX - 1_999))
    fits = b'{"a":[' + b",".join([prose] * 2_000) + b"," + rest + b"]}"
    assert scan(fits).members
    with pytest.raises(RawJsonError, match=f"more than {VALUES_MAX} JSON values"):
        scan(fits.replace(b'{"a"', b'{"b":0,"a"'))
    assert scan(b'{"a":"' + b"," * (3 * VALUES_MAX) + b'"}').members


def test_long_lists_of_strings_are_walked_in_steps(monkeypatch):
    """Keys and spans behind thousands of strings are found, and no match passes over more than a few thousand."""
    longest = []

    class Measuring(CountingPattern):
        def finditer(self, body):
            for match in super().finditer(body):
                longest.append(match[0].count(b'"'))
                yield match

    monkeypatch.setattr(rawjson, "_TOKEN", Measuring(rawjson._TOKEN))
    many = b"[" + b",".join([b'"s"'] * 9_999) + b"]"
    raw = scan(b'{"a":' + many + b',"b":{"c":' + many + b'},"d":1}')
    assert {key: raw.value(key) for key in raw.members} == {"a": many, "b": b'{"c":' + many + b"}", "d": b"1"}
    assert max(longest) <= 2 * (rawjson._STRINGS_AT_ONCE + 1)
    with pytest.raises(RawJsonError, match="twice"):
        scan(b'{"a":' + many + b',"b":{"c":1,"d":' + many + b',"c":2}}')


def result_of(function, data):
    """What a function makes of bytes, or the refusal it raises."""
    try:
        return function(data)
    except (orjson.JSONDecodeError, InvalidRequest, RawJsonError) as refusal:
        return refusal


@given(JSONISH, st.booleans())
def test_nothing_passes_that_the_strict_parser_refuses(text, wrapped):
    """Both ran: what comes out agrees with orjson, and what orjson or the limits refuse is a 400."""
    data = ('{"k":' + text + "}" if wrapped else text).encode("latin-1")
    strict = result_of(orjson.loads, data)
    found = result_of(parse_object, data)
    if isinstance(found, InvalidRequest):
        repeated = "appears twice" in found.message
        assert repeated or not isinstance(strict, dict), f"{data!r} is a good object"
    else:
        raw, body = found
        assert body == strict
        assert {key: orjson.loads(raw.value(key)) for key in raw.members} == strict


class CountingPattern:
    """Counts what the scan looks at one by one, and checks that the matches leave no byte to be tried again."""

    def __init__(self, pattern):
        self.pattern, self.count, self.gaps = pattern, 0, 0

    def finditer(self, body):
        end = 0
        for match in self.pattern.finditer(body):
            self.count += 1
            self.gaps += match.start() - end
            end = match.end()
            yield match


MIB4 = 4 * 1024 * 1024
HOSTILE = {
    "quotes": b'{"a":' + b'"' * MIB4,
    "odd quotes": b'{"a":' + b'"' * (MIB4 + 1),
    "backslashes": b'{"a":"' + b"\\" * MIB4,
    "backslashes outside": b"{" + b"\\" * MIB4,
    "escaped quotes without end": b'{"a":"' + b'\\"' * (MIB4 // 2),
    "escaped quotes": b'{"a":"' + b'\\"' * (MIB4 // 2) + b'"}',
    "open brackets": b'{"a":' + b"[" * MIB4,
    "closing brackets": b"{" + b"]" * MIB4,
    "braces": b"{" * MIB4,
    "blanks after a string": b'{"a":"x"' + b" " * MIB4,
    "strings and blanks": b'{"a":[' + b'"" ' * (MIB4 // 3),
    "digits": b'{"a":' + b"9" * MIB4 + b"}",
    "long escapes": b'{"a":"' + b"\\u0041" * (MIB4 // 6) + b'"}',
    "a key of escapes": b'{"' + b"\\u0041" * (MIB4 // 6) + b'":1}',
    "commas": b'{"a":[' + b"," * MIB4 + b"]}",
    "commas and a quote": b'{"a":["' + b'\\",' * (MIB4 // 3),
    "commas before a quote": b'{"a":[' + b"," * MIB4 + b'"',
    "strings and commas": b'{"a":[' + b'"",' * (MIB4 // 3) + b"0]}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bodies_cost_one_walk(name, monkeypatch):
    """4 MiB of anything: every byte belongs to exactly one match, and few matches are looked at. No time is measured."""
    counting, values = CountingPattern(rawjson._TOKEN), CountingPattern(rawjson._SOME)
    monkeypatch.setattr(rawjson, "_TOKEN", counting)
    monkeypatch.setattr(rawjson, "_SOME", values)
    found = result_of(scan, HOSTILE[name])
    assert len(str(found)) < 300 if isinstance(found, RawJsonError) else len(found.members) == 1
    assert counting.gaps == values.gaps == 0
    assert counting.count <= TOKENS_MAX + 1


@given(st.lists(VALUES, max_size=6), st.data())
def test_objects_in_an_array_are_found(values, data):
    """Only elements, not what lies deeper; each span is the object's own bytes."""

    @st.composite
    def text(draw):
        return written(draw, values)

    array = data.draw(text()).encode()
    found = [orjson.loads(array[start:end]) for start, end in objects_in(array)]
    assert found == [orjson.loads(orjson.dumps(value)) for value in values if isinstance(value, dict)]
