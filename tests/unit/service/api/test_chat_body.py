"""Bytes to a chat request: every line of the catalogue of bad bodies, and the odd ones that must pass."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.api import chat_body
from service.api.chat_body import (
    MESSAGES_MAX,
    MODEL_CHARACTERS_MAX,
    N_MAX,
    OUTPUT_TOKENS_CAP_MAX,
    PARTS_MAX,
    TOOLS_MAX,
    URL_CHARACTERS_MAX,
    read_chat,
)
from service.errors import InvalidRequest

USER = {"role": "user", "content": "hi"}
CANARY = "canary-7f3a"


def body(**members):
    return json.dumps({"model": "auto", "messages": [USER], **members}).encode()


def refused(data):
    with pytest.raises(InvalidRequest) as refusal:
        read_chat(data, {})
    error = refusal.value
    assert (error.status, error.type) == (400, "invalid_request_error")
    assert len(error.message) < 600
    assert CANARY not in json.dumps(error.body())
    return error


def around(value):
    """A good body with raw JSON text as the value of an unknown field, and text that no message may repeat."""
    return b'{"model":"auto","messages":[{"role":"user","content":"' + CANARY.encode() + b'"}],"x":' + value + b"}"


NOT_JSON = {
    "empty": b"",
    "blank": b" \r\n\t ",
    "truncated": around(b"1")[:-1],
    "truncated in a string": around(b'"abc')[:-1],
    "truncated in an escape": around(b'"abc\\')[:-1],
    "null": b"null",
    "array": b"[]",
    "string": b'"' + CANARY.encode() + b'"',
    "number": b"7",
    "byte order mark": b"\xef\xbb\xbf" + around(b"1"),
    "UTF-16": around(b"1").decode().encode("utf-16"),
    "invalid UTF-8": around(b'"\xff"'),
    "overlong UTF-8": around(b'"\xc0\xaf"'),
    "surrogate in UTF-8": around(b'"\xed\xa0\x80"'),
    "lone surrogate": around(b'"\\ud800"'),
    "lone low surrogate": around(b'"\\udc00"'),
    "NaN": around(b"NaN"),
    "Infinity": around(b"Infinity"),
    "-Infinity": around(b"-Infinity"),
    "1e400": around(b"1e400"),
    "5,000 digits": around(b"9" * 5000),
    "trailing garbage": around(b"1") + b"x",
    "two objects": around(b"1") * 2,
    "trailing comma": around(b"1,"),
    "single quotes": around(b"'a'"),
    "comment": around(b"1/**/"),
    "control character": around(b'"\x01"'),
    "wrong bracket": around(b"[1}"),
    "plain text": CANARY.encode(),
}


@pytest.mark.parametrize("name", NOT_JSON)
def test_what_is_no_json_object(name):
    """Refused as a whole: no field is to blame."""
    error = refused(NOT_JSON[name])
    assert error.param is None
    assert error.code in ("invalid_json", "empty_body")


@pytest.mark.parametrize(
    ("data", "param"),
    [
        (around(b"[" * 100_000 + b"]" * 100_000), "x"),
        (around(b"[" * 100_000), "x"),
        (around(b'{"a":' * 100_000), "x"),
        (
            body(tools=[{"type": "function", "function": {"parameters": json.loads('{"p":' * 61 + "1" + "}" * 61)}}]),
            "tools",
        ),
        (b'{"model":"auto","model":"b","messages":[]}', "model"),
        (b'{"model":"auto","mod\\u0065l":"b"}', "model"),
        (b'{"model":"auto","messages":[{"role":"user","role":"system"}]}', "messages"),
        (around(b'{"a":{"b":1,"b":2}}'), "x"),
    ],
)
def test_depth_and_duplicates_name_the_field_they_are_in(data, param):
    """Whichever of two equal keys a vendor believes, it is not the one that was checked."""
    error = refused(data)
    assert (error.param, error.code) == (param, "invalid_json")


def without(name):
    members = {"model": "auto", "messages": [USER]}
    del members[name]
    return json.dumps(members).encode()


def message(**fields):
    return body(messages=[USER, {"role": "user", **fields}])


def part(**fields):
    return message(content=[{"type": "text", "text": "a"}, fields])


BAD = [
    (without("model"), "model"), (body(model=None), "model"), (body(model=7), "model"), (body(model=[CANARY]), "model"),
    (body(model=""), "model"), (body(model=CANARY + "x" * 2**20), "model"), (body(model="a\r\nx-evil: 1"), "model"),
    (body(model="a\x00"), "model"), (body(model="a\u2028b"), "model"), (body(model="m" * (MODEL_CHARACTERS_MAX + 1)), "model"),
    (without("messages"), "messages"), (body(messages=None), "messages"), (body(messages=CANARY), "messages"),
    (body(messages={}), "messages"), (body(messages=[]), "messages"), (body(messages=[USER] * (MESSAGES_MAX + 1)), "messages"),
    (body(messages=[7]), "messages[0]"), (body(messages=[USER, None]), "messages[1]"), (body(messages=[[USER]]), "messages[0]"),
    (body(messages=[{}]), "messages[0].role"), (body(messages=[{"role": CANARY, "content": "x"}]), "messages[0].role"),
    (body(messages=[{"role": ["user"], "content": "x"}]), "messages[0].role"), (message(role=None), "messages[1].role"),
    (message(), "messages[1].content"), (message(content=None), "messages[1].content"), (message(content=7), "messages[1].content"),
    (message(content={}), "messages[1].content"), (message(content=[]), "messages[1].content"),
    (message(role="system", content=None), "messages[1].content"), (message(role="tool"), "messages[1].content"),
    (message(role="function"), "messages[1].content"),
    (message(content=[{"type": "text", "text": "a"}] * (PARTS_MAX + 1)), "messages[1].content"),
    (message(content=[CANARY]), "messages[1].content[0]"), (part(), "messages[1].content[1]"),
    (part(type=7), "messages[1].content[1]"), (part(text=CANARY), "messages[1].content[1]"),
    (part(type="text"), "messages[1].content[1].text"), (part(type="text", text=[CANARY]), "messages[1].content[1].text"),
    (part(type="image_url"), "messages[1].content[1].image_url.url"),
    (part(type="image_url", image_url="https://e.org/a.png"), "messages[1].content[1].image_url.url"),
    (part(type="image_url", image_url={"url": 7}), "messages[1].content[1].image_url.url"),
    (part(type="video_url", video_url={"url": "file:///etc/passwd"}), "messages[1].content[1].video_url.url"),
    (message(role="assistant", content=None, tool_calls=CANARY), "messages[1].tool_calls"),
    (message(role="assistant", content=None, tool_calls={"id": 1}), "messages[1].tool_calls"),
    *((body(n=value), "n") for value in (0, -1, N_MAX + 1, 1.5, "2", True, [], 10**30)),
    *((body(**{name: value}), name) for name in ("max_tokens", "max_completion_tokens")
      for value in (0, -1, OUTPUT_TOKENS_CAP_MAX + 1, 1.0, "9", False, {})),
    *((body(temperature=value), "temperature") for value in (-0.1, 2.1, "1", True, [])),
    *((body(top_p=value), "top_p") for value in (-0.1, 1.1, "1", False)),
    *((body(stream=value), "stream") for value in ("true", 1, [])),
    (body(stream_options=True), "stream_options"), (body(stream_options=[]), "stream_options"),
    (body(stream=True, stream_options={"include_usage": "yes"}), "stream_options.include_usage"),
    (body(tools=CANARY), "tools"), (body(tools={}), "tools"), (body(tools=[7]), "tools[0]"),
    (body(tools=[{"type": "function"}, {}]), "tools[1]"), (body(tools=[{"type": "function"}] * (TOOLS_MAX + 1)), "tools"),
    (body(response_format="json"), "response_format"), (body(response_format={}), "response_format"),
    (body(response_format={"type": 7}), "response_format"), (body(logprobs=1), "logprobs"),
    (body(coe=[]), "coe"), (body(coe={"polcy": "x"}), "coe"), (body(coe={"max_cost_usd": -1}), "coe.max_cost_usd"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "param"), BAD, ids=[f"{n}-{row[1][:40]}" for n, row in enumerate(BAD)])
def test_bad_fields_are_named(data, param):
    """400 with the path of the field; what stood in it is never repeated."""
    assert refused(data).param == param


LOCAL = [
    "file:///etc/passwd", "FILE:///etc/passwd", "ftp://e.org/a", "gopher://e.org/", "//e.org/a.png", "a.png", "", "http:", "http://",
    "http:///a", "javascript:alert(1)", "http://localhost/a", "http://LOCALHOST./a", "http://x.localhost/a", "http://127.0.0.1/a",
    "http://127.9.9.9:8080/", "http://[::1]/", "http://[::ffff:127.0.0.1]/", "http://0.0.0.0/", "http://[::]/",
    "http://169.254.169.254/latest/meta-data/", "http://user:pass@169.254.169.254/", "http://[fe80::1]/", "http://[fe80::1%25eth0]/",
    "http://[::ffff:169.254.169.254]/", "http://[64:ff9b::a9fe:a9fe]/", "http://2852039166/", "http://0xa9fea9fe/", "http://0xa9.254.0xa9.254/",
    "http://0251.0376.0251.0376/", "http://127.1/", "http://metadata.google.internal/", "http://METADATA/", "http://100.100.100.200/",
    "http://[fd00:ec2::254]/", "http://169.254.169.254\\@example.com/", "http://e.org\\a", "http://e.org/a b", "http://e.org/\n",
    " file:///etc/passwd", "http://①②⑦.⓪.⓪.①/", "http://ｌｏｃａｌｈｏｓｔ/", "http://127。0。0。1/", "http://[::1/", "http://e.org/" + "a" * URL_CHARACTERS_MAX,
    "http://" + "a" * 3000 + "@169.254.169.254/", "http://169.254.169.254.:80/",
]  # fmt: skip


@pytest.mark.parametrize("url", LOCAL)
def test_links_to_files_and_local_hosts(url):
    """However they are spelled: the router fetches nothing, but an engine behind it might."""
    assert refused(part(type="image_url", image_url={"url": url})).param == "messages[1].content[1].image_url.url"


@pytest.mark.parametrize(
    "url",
    ["https://example.com/a.png", "http://93.184.216.34/a", "data:image/png;base64,aGk=", "DATA:image/png;base64,aGk=",
     "https://user@e.org:8443/a?x=1#y", "https://10.0.0.5/own.png", "https://[2606:2800::1]/", "https://bücher.example/ä.png",
     "https://metadata.example.com/", "data:image/png;base64," + "a" * 100_000],
)  # fmt: skip
def test_links_that_are_fine(url):
    """Public hosts, private networks of the operator's own, data."""
    chat = read_chat(part(type="image_url", image_url={"url": url}), {})
    assert (chat.sizes.images, chat.modalities) == (1, {"text", "image"})


def test_odd_bodies_pass_untouched():
    """Unknown fields, NUL, U+2028, escapes, big numbers, every role: as they came."""
    data = (
        b' {"model":"a/b:c","messages":[{"role":"developer","content":"\\u0000\\u2028\xe2\x80\xa8"},{"role":"user","content":""},'
        b'{"role":"assistant","content":null,"tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{"}}]},'
        b'{"role":"tool","tool_call_id":"1","content":[{"type":"text","text":"r"}]},{"role":"function","name":"f","content":null},'
        b'{"role":"assistant","audio":{"id":"a"}},{"role":"user","content":[{"type":"brand_new","x":1},{"type":"input_audio"}]}],'
        b'"x_unknown":{"n":12345678901234567890123,"e":1.50E+3},"logit_bias":{"50256":-100},"stop":["\\n"],"tool_choice":"none",'
        b'"temperature":2,"top_p":0,"max_tokens":null,"tools":null,"stream":null,"stream_options":null,"user":7} \n'
    )
    chat = read_chat(data, {})
    assert chat.raw.body == data
    assert chat.body["messages"][0]["content"] == "\x00\u2028\u2028"
    assert (chat.model, chat.stream, chat.n, chat.output_tokens_max, chat.user) == ("a/b:c", False, 1, None, None)
    assert chat.modalities == {"text", "audio"}


def test_limits_themselves_pass():
    """What is exactly at a limit is within it."""
    assert read_chat(body(messages=[USER] * MESSAGES_MAX), {}).sizes.messages == MESSAGES_MAX
    assert read_chat(body(n=N_MAX, max_tokens=OUTPUT_TOKENS_CAP_MAX, model="m" * MODEL_CHARACTERS_MAX), {}).n == N_MAX
    assert read_chat(body(tools=[{"type": "function"}] * TOOLS_MAX), {}).sizes.tools == TOOLS_MAX
    assert read_chat(message(content=[{"type": "text", "text": "a"}] * PARTS_MAX), {}).sizes.characters == PARTS_MAX + 2


@pytest.mark.parametrize(
    ("said", "cap"), [({}, None), ({"max_tokens": 5}, 5), ({"max_completion_tokens": 6}, 6),
                      ({"max_tokens": 5, "max_completion_tokens": 6}, 5), ({"max_tokens": 7, "max_completion_tokens": 6}, 6)]
)  # fmt: skip
def test_of_two_caps_the_lower_binds(said, cap):
    """A caller's limit is never widened."""
    assert read_chat(body(**said), {}).output_tokens_max == cap


def test_what_a_body_needs():
    """Capabilities by their registry names, kinds of input, sizes."""
    assert read_chat(body(), {}).needs == frozenset()
    chat = read_chat(
        body(
            messages=[{"role": "system", "content": "sss"}, {"role": "user", "content": [
                {"type": "text", "text": "中文ab"}, {"type": "file", "file": {}}, {"type": "input_audio", "input_audio": {}}]}],
            tools=[{"type": "function"}], response_format={"type": "json_schema"}, logprobs=True, n=2,
        ), {})  # fmt: skip
    assert chat.needs == {"tools", "json_schema", "logprobs", "n"}
    assert chat.modalities == {"text", "file", "audio"}
    sizes = chat.sizes
    assert (sizes.characters, sizes.cjk_characters, sizes.messages, sizes.unmeasured, sizes.tools) == (7, 2, 2, 2, 1)
    assert (sizes.last_user_characters, sizes.last_user_cjk_characters) == (4, 2)
    assert sizes.tool_characters == len('[{"type": "function"}]') + len('{"type": "json_schema"}')
    assert read_chat(body(response_format={"type": "text"}, n=1, functions=[{"name": "f"}]), {}).needs == {"tools"}


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(max_size=4),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["role", "content", "type", "text", "image_url", "url", "tool_calls", "x"]),
                inner,
                max_size=4,
            )
        ),
        max_leaves=8,
    ),
    st.sampled_from(
        [
            "model",
            "messages",
            "tools",
            "n",
            "stream",
            "stream_options",
            "response_format",
            "coe",
            "temperature",
            "functions",
            "user",
            "message",
            "part",
        ]
    ),
)
def test_any_value_anywhere_is_an_answer_or_a_400(value, field):
    """Never another exception, whatever stands in a field that is read; an accepted body can be measured and read."""
    data = {
        "message": lambda: body(messages=[USER, value]),
        "part": lambda: (
            part(type="text", text="a", x=value) if not isinstance(value, dict) else message(content=[value])
        ),
    }.get(field, lambda: body(**{field: value}))()
    try:
        chat = read_chat(data, {})
    except InvalidRequest:
        return
    assert chat.sizes.input_tokens > 0
    assert isinstance(chat.turns(), list)


def test_message_counts_are_checked_before_messages(monkeypatch):
    """A hundred thousand bad messages cost one look at their number."""
    monkeypatch.setattr(chat_body, "_content", lambda *_: pytest.fail("looked at a message"))
    assert refused(b'{"model":"auto","messages":[' + b",".join([b'"x"'] * 100_000) + b"]}").param == "messages"


def test_attachments_count():
    """What is carried in base64 is measured; what is only referred to is counted as unmeasured, but for images."""
    parts = [
        {"type": "file", "file": {"file_data": "A" * 4000}},
        {"type": "input_audio", "input_audio": {"data": "A" * 8000, "format": "mp3"}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
    ]
    sizes = read_chat(message(content=parts), {}).sizes
    assert (sizes.file_bytes, sizes.audio_bytes, sizes.images, sizes.unmeasured) == (3000, 6000, 1, 0)
    assert sizes.input_tokens > 3000 // 4 + 6000 // 400
    by_reference = [
        {"type": "file", "file": {"file_id": "f"}},
        {"type": "video_url", "video_url": {"url": "https://x.y"}},
    ]
    assert read_chat(message(content=by_reference), {}).sizes.unmeasured == 2
