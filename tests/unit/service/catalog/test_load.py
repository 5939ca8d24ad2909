"""The whole way from a file to a catalogue: a good one loads, a bad one says everything that is wrong and where."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from service.catalog.load import load, load_bytes
from service.domain.catalog import Catalog
from service.errors import RegistryError

LoadText = Callable[..., Catalog]
Wrong = Callable[..., list[str]]


def edited(text: str, old: str, new: str) -> str:
    """The text with one exact passage replaced."""
    assert text.count(old) == 1, f"{old!r} must stand in the example exactly once"
    return text.replace(old, new)


def test_the_example_loads(load_text: LoadText, example: str) -> None:
    """Everything the schema has is used by the example, and comes out as the domain's own values."""
    catalog = load_text(example, {"DEEPSEEK_API_KEY": "k"})
    assert list(catalog.models) == ["deepseek-flash", "qwen-onprem", "secret-lab"]
    assert set(catalog.by_id) == {
        "deepseek/deepseek-flash",
        "bailian/deepseek-flash",
        "local/qwen-onprem",
        "bailian/secret-lab",
    }
    assert catalog.version == hashlib.sha256(example.encode()).hexdigest()[:12]
    assert catalog.baseline == "deepseek-flash"


def test_all_problems_come_at_once_in_the_order_of_the_file(wrong: Wrong, example: str) -> None:
    """Mistakes of different kinds, in different entries and below each other, are found in one run."""
    text = example
    for old, new in (
        ("baseline: deepseek-flash", "baseline: nobody"),
        ("coding: 0.80", "codin: 0.80"),
        ("      - provider: deepseek\n", "      - provider: deepsek\n"),
        ("input: 0.15\n", "input: -1\n"),
        ("multiply: 2}", "multiply: two}"),
        ("gpus: 8", "gpus: 0"),
        ("policy: private}", "policy: privat}"),
    ):
        text = edited(text, old, new)
    found = wrong(text)
    places = [tuple(int(part) for part in line.split(":")[1:3]) for line in found]
    assert places == sorted(places)
    assert [line for line, _ in places] == [3, 31, 36, 41, 44, 62, 73]


def test_a_failed_entry_raises_no_second_alarm(wrong: Wrong, example: str) -> None:
    """Whatever refers to a broken entry by its name isn't blamed for that."""
    text = edited(example, "    tags: [private]\n", "    tags: 5\n")
    text = edited(text, "utilization: 0.6", "utilization: 7")
    text = edited(text, "objective: min_cost, min_quality: 0.70", "objective: min_cost, min_quality: 7")
    assert [line.split(":")[1] for line in wrong(text)] == ["23", "62", "69"]


def test_wrong_exchange_rates_blame_no_price(wrong: Wrong, example: str) -> None:
    """When the rates themselves are wrong, the prices that need them stay out of the list."""
    (problem,) = wrong(edited(example, "CNY: 0.1406", 'CNY: "0.1406"'))
    assert problem.startswith("providers.yaml:2:36: expected a number")


def test_a_broken_calendar_blames_no_window(wrong: Wrong, example: str) -> None:
    """A window that names a calendar with a mistake is not the mistake."""
    text = edited(example, "except: cn-holidays", "except: mine")
    (problem,) = wrong(text + "calendars:\n  mine: {zone: Asia/Shanghai, days: [2026-13-01], until: 2026-12-31}\n")
    assert problem == "providers.yaml:86:38: no such day: 2026-13-01"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[]", "1:1: expected a mapping with version, providers and models, got a list"),
        ("just words", "1:1: expected a mapping with version, providers and models, got the text 'just words'"),
        ("version: 1\nmodels: []\n", "2:9: expected a mapping from names to models, got a list"),
        ("version: 1\nmodels: {a b: {}}\n", "2:10: not a name: letters, digits, '.', '_' and '-', "),
        ("version: 1\nmodels: {a/b: {}}\n", "2:10: not a name: "),
        ("version: 1\nmodels: {auto: {}}\n", "2:10: auto is the router's own name; choose another"),
        ("version: 1\nmodels: {m: }\n", "2:10: expected a mapping, got nothing"),
        ("version: 1\nmodels: {m: {deployments: [5]}}\n", "2:28: expected a mapping, got 5"),
        (
            "version: 1\nmodels: {m: {deployments: }}\n",
            "2:14: expected a list, got nothing; remove the field or fill it",
        ),
        ("version: 1\nroutes: {a: 1}\n", "2:1: expected a list, got a mapping"),
        ("version: 1\nbudgets: {interns: {usd_per_day: 5}}\n", "2:1: expected a list, got a mapping"),
        ("version: 1\ncache: {}\n", "2:1: the field 'ttl_s' is missing; add it: seconds that an answer is kept"),
        ("version: 1\ncache: true\n", "2:8: expected a mapping, got true"),
        ("version: 1\ncache: {ttl_s: 0}\n", "2:16: must be between 1 and 2592000, got 0"),
        ("version: 1\ncache:\n  ttl_s: 1h\n", "3:10: expected a whole number: write digits only"),
        ("version: 1\ncache: {ttl_s: 60, ttl: 60}\n", "2:20: unknown field 'ttl'; did you mean 'ttl_s'?"),
        ("version: 1\ncache: {ttl_s: 60, answer_bytes_max: 1}\n", "2:38: must be between 1024 and 4194304, got 1"),
        ("version: 1\nbudgets: [5]\n", "2:11: expected a mapping, got 5"),
        ("version: 1\nbudget: []\n", "2:1: unknown field 'budget': write usd_per_day or usd_per_month"),
        ("version: 1\nmodel: {}\n", "2:1: unknown field 'model'; did you mean 'models'?"),
        ("version: 1\ndefault_policy: nobody\n", "2:17: unknown policy 'nobody'; use one of: balanced, best, cheap"),
    ],
)
def test_a_file_of_the_wrong_shape(wrong: Wrong, text: str, problem: str) -> None:
    """Shapes that no entry could have are told as such."""
    (found,) = wrong(text)
    assert found.startswith(f"providers.yaml:{problem}")


def test_calendars_of_the_file(wrong: Wrong, load_text: LoadText) -> None:
    """A day after `until` contradicts it; the zone must exist; UTC is one."""
    text = "version: 1\ncalendars:\n  c: {zone: ZONE, days: [2027-01-01, 2027-02-01], until: 2027-01-31}\n"
    assert wrong(text.replace("ZONE", "UTC")) == [
        "providers.yaml:3:37: 2027-02-01 is after until (2027-01-31); move until, or the day"
    ]
    (problem,) = wrong(text.replace("ZONE", "../etc").replace("2027-02", "2027-01"))
    assert problem.startswith("providers.yaml:3:13: unknown time zone '../etc'; ")
    load_text(text.replace("ZONE", "utc").replace("2027-02", "2027-01"))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "version: 1\npolicies: {" + ", ".join(f"p{n}: {{}}" for n in range(5_001)) + "}\n",
            "2:1: more than 5000 policies; remove those that nobody uses",
        ),
        (
            "version: 1\nroutes: [" + ", ".join(["{}"] * 501) + "]\n",
            "2:1: more than 500 routes; remove those that nobody needs",
        ),
        (
            "version: 1\nbudgets: [" + ", ".join(["{}"] * 501) + "]\n",
            "2:1: more than 500 budgets; remove those that nobody needs",
        ),
        (
            "version: 1\nmodels: {m: {deployments: [" + ", ".join(["{}"] * 101) + "]}}\n",
            "2:14: more than 100 deployments; remove those that nobody needs",
        ),
        (
            "version: 1\nproviders: {p: {base_url: 'http://127.0.0.1'}}\n"
            "models: {m: {deployments: [{provider: p, name: n, prices: [" + ", ".join(["{}"] * 501) + "]}]}}\n",
            "3:51: more than 500 prices; remove those that nobody needs",
        ),
        (
            "version: 1\nproviders: {p: {base_url: 'http://127.0.0.1'}}\n"
            "models: {m: {deployments: [{provider: p, name: n, prices: [{from: 2026-01-01, windows: ["
            + ", ".join(["{utc: '01:00-02:00', multiply: 2}"] * 25)
            + "]}]}]}}\n",
            "3:79: more than 24 items; remove some",
        ),
    ],
)
def test_every_list_has_a_limit(wrong: Wrong, text: str, problem: str) -> None:
    """What is compared with each other is bounded in number, so that a file can't keep a start busy for hours."""
    assert wrong(text) == [f"providers.yaml:{problem}"]


def test_unknown_quirks_are_errors_when_the_table_is_given(wrong: Wrong, load_text: LoadText, example: str) -> None:
    """The loader doesn't know what quirks the code honours; whoever does passes the table."""
    table = {"cached_token": "", "max_tokens": ""}
    (problem,) = wrong(example, known_quirks=table)
    assert problem == "providers.yaml:14:14: unknown quirk 'cached_tokens'; did you mean 'cached_token'?"
    load_text(example, known_quirks={"cached_tokens": "", "max_tokens": ""})


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("api_key: ${env:DEEPSEEK_API_KEY}", "api_key: sk-canary-7f3a"),
        ("api_key: ${env:DEEPSEEK_API_KEY}", "api_key: ${env:A:-sk-canary-7f3a}"),
        ("api_key: ${env:DEEPSEEK_API_KEY}", "api_key: {sk-canary-7f3a: 1}"),
        ("api_key: ${env:DEEPSEEK_API_KEY}", "apikey: sk-canary-7f3a"),
        ("api_key: ${env:DEEPSEEK_API_KEY}", "api_key: 5551234"),
        ("api_key: ${env:DEEPSEEK_API_KEY}", "api_key: [5551234]"),
        ("{x-team: router}", "sk-canary-7f3a"),
        ("{x-team: router}", "{x-team: 5551234}"),
        ("{x-team: router}", "{authorization: sk-canary-7f3a}"),
        ("{x-team: router}", '{x-team: "sk-canary-7f3a ${env:A}"}'),
        ("{x-team: router}", '{x-team: "sk-canary-7f3a\\n"}'),
        ("https://api.deepseek.com/v1", "https://user:sk-canary-7f3a@api.deepseek.com/v1"),
        ("https://api.deepseek.com/v1", "https://api.deepseek.com/v1?key=sk-canary-7f3a"),
        ("https://api.deepseek.com/v1", "sk-canary-7f3a"),
    ],
)
def test_a_key_in_the_file_is_refused_and_not_repeated(wrong: Wrong, example: str, old: str, new: str) -> None:
    """Wherever someone puts a key, the message about it doesn't hold it."""
    found = wrong(edited(example, old, new))
    assert found
    assert "canary" not in "\n".join(found)
    assert "5551234" not in "\n".join(found)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """No file, a folder, a pipe and an unreadable file each say what to do."""
    now = datetime(2026, 11, 21, tzinfo=UTC)
    missing = tmp_path / "providers.yaml"
    with pytest.raises(RegistryError, match=r"providers\.yaml:1:1: no such file; give the path"):
        load(missing, {}, now=now)
    with pytest.raises(RegistryError, match=":1:1: not a file; give the path"):
        load(tmp_path, {}, now=now)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(RegistryError, match="not a file"):
        load(pipe, {}, now=now)


def test_load_reads_the_file(tmp_path: Path, example: str) -> None:
    """From disk and from memory the same catalogue comes out; problems begin with the path as it was given."""
    now = datetime(2026, 11, 21, tzinfo=UTC)
    path = tmp_path / "providers.yaml"
    path.write_text(example)
    assert load(path, {}, now=now) == load_bytes(example.encode(), "other", {}, now=now)
    path.write_text(example + "extra: 1\n")
    with pytest.raises(RegistryError) as caught:
        load(path, {}, now=now)
    assert caught.value.problems == (
        (
            f"{path}:85:1: unknown field 'extra'; use one of: "
            "baseline, budgets, cache, calendars, currency, default_policy, models, policies, providers, "
            "routes, version"
        ),
    )


def test_an_oversized_file_is_not_read_whole(tmp_path: Path) -> None:
    """A sparse file of a terabyte is refused at once."""
    path = tmp_path / "providers.yaml"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(RegistryError, match="larger than 4194304 bytes"):
        load(path, {}, now=datetime(2026, 11, 21, tzinfo=UTC))


def test_now_must_be_aware(example: str) -> None:
    """An instant without a zone would make every date of the file ambiguous."""
    with pytest.raises(ValueError, match="aware"):
        load_bytes(example.encode(), "f", {}, now=datetime(2026, 11, 21))  # noqa: DTZ001 - the mistake under test
