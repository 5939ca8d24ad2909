"""What the caller asks of the router: the body's `coe` object and the `x-coe-*` headers."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.api.steering import LIST_ITEMS_MAX, read_steering
from service.domain.catalog import Selector
from service.domain.chat import CacheWish, Steering
from service.errors import InvalidRequest


def refused(coe, headers=None):
    with pytest.raises(InvalidRequest) as refusal:
        read_steering(coe, headers or {})
    assert refusal.value.status == 400
    return refusal.value


def test_nothing_said():
    """Absent, null and empty are the same."""
    assert read_steering(None, {}) == Steering()
    assert read_steering({}, {"content-type": "x"}) == Steering()
    assert read_steering({"policy": None, "allow": None}, {}) == Steering()


def test_every_field():
    """As the body spells them."""
    assert read_steering(
        {
            "policy": "cheap", "min_quality": 0.8, "max_cost_usd": 0.05, "max_latency_ms": 1500, "plan": "single",
            "allow": {"models": ["a"], "providers": "p", "regions": ["eu", "cn"], "tags": []},
            "deny": ["m", "provider:openai", "region:us", "tag:x", "qwen3:32b"],
            "session": "s 1", "tags": ["t"], "explain": True, "no_fallback": False,
        },
        {},
    ) == Steering(
        policy="cheap", min_quality=0.8, max_cost_pusd=50_000_000_000, max_latency_ms=1500, plan="single",
        allow=Selector(models=frozenset({"a"}), providers=frozenset({"p"}), regions=frozenset({"eu", "cn"})),
        deny=Selector(any_of=frozenset({"m", "qwen3:32b", "provider:openai", "region:us", "tag:x"})),
        session="s 1", tags=("t",), explain=True, no_fallback=False,
    )  # fmt: skip


def test_headers_say_the_same():
    """With dashes, as text; lists with commas."""
    headers = {
        "x-coe-policy": "cheap", "x-coe-min-quality": "0.8", "x-coe-max-cost-usd": " 0.05 ", "x-coe-max-latency-ms": "1500",
        "x-coe-deny": "m, provider:openai ,,region:us,tag:x,qwen3:32b", "x-coe-tags": "a,b", "x-coe-explain": "TRUE",
        "x-coe-no-fallback": "0", "x-coe-session": "s 1", "x-coe-plan": "single", "x-coe-allow": "region:eu",
    }  # fmt: skip
    body = {
        "policy": "cheap", "min_quality": 0.8, "max_cost_usd": 0.05, "max_latency_ms": 1500, "tags": ["a", "b"],
        "deny": ["m", "provider:openai", "region:us", "tag:x", "qwen3:32b"], "explain": True, "no_fallback": False,
        "session": "s 1", "plan": "single", "allow": ["region:eu"],
    }  # fmt: skip
    assert read_steering(None, headers) == read_steering(body, {})


def test_the_body_wins():
    """Field by field; what only the header says still counts."""
    steering = read_steering({"policy": "best"}, {"x-coe-policy": "cheap", "x-coe-max-cost-usd": "1"})
    assert (steering.policy, steering.max_cost_pusd) == ("best", 10**12)


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("policy", ["", "a\nb", "x" * 201, 7, [], True]),
        ("session", ["", "\x00", "x" * 201, 7]),
        ("plan", [1.5]),
        ("min_quality", [-0.1, 1.1, "high", True, [], float("nan"), float("inf")]),
        ("max_cost_usd", [-1, 1_000_001, "1", True, {}, float("inf")]),
        ("max_latency_ms", [0, 0.5, -5, 3_600_001, "soon", True]),
        ("explain", ["true", 1, 0, [], "yes"]),
        ("no_fallback", [1]),
        ("tags", [7, [7], [""], ["a"] * (LIST_ITEMS_MAX + 1), {"a": 1}, ["a\r\nb"]]),
        (
            "allow",
            [7, [7], {"models": [7]}, {"models": None}, {"model": ["a"]}, ["a"] * (LIST_ITEMS_MAX + 1), ["tag:"]],
        ),
        ("deny", ["provider:", {"tags": 7}, [None]]),
    ],
)
def test_wrong_values_name_their_field(field, values):
    """In the body under `coe.`, and never with the value."""
    for value in values:
        error = refused({field: value})
        assert error.param.startswith(f"coe.{field}")


@pytest.mark.parametrize(
    ("header", "values"),
    [
        ("min-quality", ["", "high", "2", "-0.1", "nan", "inf", "0x1", "1e-1"]),
        (
            "max-cost-usd",
            ["1e-999999999", "1e999999999", "9" * 10_000, "-1", "NaN", "sNaN", "Infinity", "1_0", "٣", "1,5"],
        ),
        ("max-latency-ms", ["0", "fast", "1e3"]),
        ("explain", ["yes", "", "2"]),
        ("policy", ["", "x" * 300]),
        ("tags", [",".join("abcdefgh" * 9)]),
    ],
)
def test_wrong_headers_name_themselves(header, values):
    """Also numbers whose exact value would fill the memory: exponents are not read at all."""
    for value in values:
        assert refused(None, {f"x-coe-{header}": value}).param == f"x-coe-{header}"


def test_unknown_fields_are_not_ignored():
    """A misspelt limit would be no limit; the message says what was meant."""
    assert "did you mean `max_cost_usd`" in refused({"max_cost": 1}).message
    assert "known fields" in refused({"zzzzz": 1}).message
    assert "known fields" in refused({"allow": {"vendor": ["x"]}}).message
    assert refused([1]).param == "coe"
    assert refused("cheap").param == "coe"


def test_headers_that_look_misspelt_are_refused():
    """Near misses only: other `x-coe-*` headers belong to somebody else."""
    assert "did you mean `x-coe-max-cost-usd`" in refused(None, {"x-coe-max-cost": "1"}).message
    assert refused(None, {"x-coe-tag": "a"}).param == "x-coe-tag"
    assert (
        read_steering(None, {"x-coe-decision-id": "d", "x-coe-simulated": "true", "x-coe-overhead-ms": "1"})
        == Steering()
    )


@given(st.decimals(0, 1_000_000, places=6, allow_nan=False))
def test_costs_are_exact(amount):
    """To the micro-dollar and below: no float on the way from a header."""
    assert read_steering(None, {"x-coe-max-cost-usd": format(amount, "f").lstrip("-")}).max_cost_pusd == int(
        abs(amount) * 10**12
    )


def test_a_cost_in_the_body_is_what_was_written():
    """0.1 is a tenth, not the nearest binary number."""
    assert read_steering({"max_cost_usd": 0.1}, {}).max_cost_pusd == 10**11
    assert read_steering(None, {"x-coe-max-cost-usd": "0.000000000001"}).max_cost_pusd == 1
    assert Decimal(read_steering({"max_cost_usd": 1e-7}, {}).max_cost_pusd) == 100_000


def test_what_is_asked_of_the_cache():
    """A switch, or an object; a header says it in the same words."""
    said = {
        "true": (True, CacheWish()),
        "false": (False, CacheWish(read=False, write=False)),
        "{}": ({}, CacheWish()),
        '{"read": false}': ({"read": False}, CacheWish(read=False)),
        '{"write": false, "ttl_s": 60}': ({"write": False, "ttl_s": 60}, CacheWish(write=False, ttl_s=60)),
    }
    for header, (field, wish) in said.items():
        assert read_steering({"cache": field}, {}).cache == wish
        assert read_steering(None, {"x-coe-cache": header}).cache == wish
    assert read_steering(None, {"x-coe-cache": " TRUE "}).cache == CacheWish()
    assert read_steering({"cache": False}, {"x-coe-cache": "true"}).cache == CacheWish(read=False, write=False)


@pytest.mark.parametrize(
    ("field", "param"),
    [
        ("true", "coe.cache"),
        (1, "coe.cache"),
        ([], "coe.cache"),
        ({"reads": True}, "coe.cache"),
        ({"read": 1}, "coe.cache.read"),
        ({"write": None}, "coe.cache.write"),
        ({"ttl_s": 0}, "coe.cache.ttl_s"),
        ({"ttl_s": 1.5}, "coe.cache.ttl_s"),
        ({"ttl_s": True}, "coe.cache.ttl_s"),
        ({"ttl_s": 10**9}, "coe.cache.ttl_s"),
    ],
)
def test_what_can_not_be_asked_of_the_cache(field, param):
    assert refused({"cache": field}).param == param


@pytest.mark.parametrize("text", ["yes", "{", "1.5", "[" * 150, '{"ttl_s": ' + "9" * 300 + "}"])
def test_a_cache_header_that_can_not_be_read(text):
    assert refused(None, {"x-coe-cache": text}).param.startswith("x-coe-cache")
