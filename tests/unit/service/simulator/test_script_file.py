"""Scripts from JSON: every field, and errors that say where."""

import json
from dataclasses import fields

import pytest

from service.errors import ConfigurationError
from service.simulator.script import Fault, LineEnding, Script, UsageShape, VendorScript
from service.simulator.script_file import load_scripts


@pytest.fixture
def load(tmp_path):
    """Load a document (or bytes) from a file."""

    def run(document):
        path = tmp_path / "scripts.json"
        path.write_bytes(document if isinstance(document, bytes) else json.dumps(document).encode())
        return load_scripts(path)

    return run


def test_a_whole_file(load):
    """All places a script can stand in."""
    vendors = load(
        {
            "vendors": {
                "a": {
                    "default": {"usage": "deepseek", "cached_tokens": 5, "header_delay_s": 0.5, "chunks": None},
                    "queue": [{"fault": "cut", "fault_after": 1}],
                    "cycle": [{"line_ending": "crlf", "done": False}],
                    "by_model": {"m": {"header_lines": ["X: y"], "raw": "abc"}},
                    "models": ["m"],
                    "api_keys": ["k"],
                    "owned_by": "vllm",
                    "model_fields": {"m": {"max_model_len": 10}},
                    "model_list": {"fault": "silence"},
                },
                "b": {},
            }
        }
    )
    assert vendors["a"] == VendorScript(
        default=Script(usage=UsageShape.DEEPSEEK, cached_tokens=5, header_delay_s=0.5),
        queue=(Script(fault=Fault.CUT, fault_after=1),),
        cycle=(Script(line_ending=LineEnding.CRLF, done=False),),
        by_model={"m": Script(header_lines=("X: y",), raw=b"abc")},
        models=("m",),
        api_keys=("k",),
        owned_by="vllm",
        model_fields={"m": {"max_model_len": 10}},
        model_list=Script(fault=Fault.SILENCE),
    )
    assert vendors["b"] == VendorScript()


def test_every_field_can_be_written(load):
    """The defaults of `Script`, written out, load as the defaults: no field is forgotten by the reader."""
    default = Script()
    written = {}
    for field in fields(Script):
        value = getattr(default, field.name)
        if isinstance(value, LineEnding):
            value = value.name.lower()
        written[field.name] = value.decode() if isinstance(value, bytes) else value
    assert load({"vendors": {"a": {"default": written}}})["a"].default == default


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (b"{", ["not JSON"]),
        (b"[" * 100_000, ["not JSON"]),
        ([], ["vendors"]),
        ({"vendors": {}}, ["vendors"]),
        ({"vendors": {"a": []}}, ["vendors.a", "expected an object"]),
        ({"vendors": {"a": {"defualt": {}}}}, ["vendors.a", "'defualt'", "'default'"]),
        ({"vendors": {"a": {"queue": [{}, {"fualt": "cut"}]}}}, ["vendors.a.queue[1]", "'fault'"]),
        ({"vendors": {"a": {"default": {"fault": "cutt"}}}}, ["vendors.a.default.fault", "did you mean 'cut'"]),
        ({"vendors": {"a": {"default": {"fault_after": "2"}}}}, ["fault_after", "expected int"]),
        ({"vendors": {"a": {"default": {"fault_after": True}}}}, ["fault_after", "expected int"]),
        ({"vendors": {"a": {"default": {"done": 1}}}}, ["done", "expected bool"]),
        ({"vendors": {"a": {"default": {"header_delay_s": -1}}}}, ["vendors.a.default", "header_delay_s"]),
        ({"vendors": {"a": {"queue": [{"fault": "refuse"}]}}}, ["vendors.a", "refuse()"]),
        ({"vendors": {"a": {"models": "m"}}}, ["vendors.a.models", "expected a list"]),
        ({"vendors": {"a": {"owned_by": 3}}}, ["vendors.a.owned_by", "expected text"]),
    ],
)
def test_errors_say_where(load, document, words):
    """File, place, what was expected."""
    with pytest.raises(ConfigurationError) as refused:
        load(document)
    assert all(word in str(refused.value) for word in ["scripts.json", *words])


def test_missing_and_huge_files(load, tmp_path):
    """Neither is read into memory."""
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_scripts(tmp_path / "nowhere.json")
    with pytest.raises(ConfigurationError, match="larger than"):
        load(b" " * (4 * 1024 * 1024 + 1))
