"""GET /v1/models: what may be named, by whom, at which price."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest
from scenery import NOW, a_catalog, a_model

from service.api.catalogue import model_list, model_object
from service.domain.access import ANONYMOUS, Caller
from service.domain.catalog import Provider
from service.domain.money import Rates, Tier
from service.errors import NotFound

OFF = Provider("off", "https://off.example", inactive_reason="set OFF_KEY")
M = a_model("m", (1.5, 2), at=("p", OFF), capabilities=frozenset({"tools"}), languages=frozenset({"en"}))
CATALOG = a_catalog(
    M,
    a_model("gone", retires=date(2026, 11, 21)),
    a_model("soon", retires=date(2026, 11, 22)),
    a_model("disabled", inactive_reason="no price"),
    a_model("unreachable", at=(OFF,)),
    a_model("free?", None),
)


def ids(caller=ANONYMOUS):
    """What is listed."""
    return [one["id"] for one in model_list(CATALOG, caller, NOW)["data"]]


def test_only_what_can_be_called_now_in_the_order_of_the_contract():
    """No retired, disabled or keyless model; then `auto`, the policies, the plans."""
    assert ids() == ["m", "soon", "free?", "auto", "auto:balanced", "auto:cheap", "auto:best", "plan:single"]


def test_a_key_sees_what_it_may_name():
    """Its models and its policies."""
    caller = Caller("k", "k", models=frozenset({"soon"}), policies=frozenset({"cheap"}))
    assert ids(caller) == ["soon", "auto", "auto:cheap", "plan:single"]
    with pytest.raises(NotFound):
        model_object("m", CATALOG, caller, NOW)


def test_windows_and_exact_prices_of_the_hosts_that_answer():
    """Strings, so that no client reads 0.1 as 0.1000000001; unknown is null, and a host without a key is not shown."""
    entry = model_object("m", CATALOG, ANONYMOUS, NOW)
    assert (entry["object"], entry["owned_by"]) == ("model", "coe-router")
    assert entry["x_coe"]["context_tokens"] == 100_000
    assert entry["x_coe"]["capabilities"] == ["tools"]
    (host,) = entry["x_coe"]["deployments"]
    assert host["provider"] == "p"
    assert host["prices"] == {
        "currency": "USD",
        "per": "1M tokens",
        "version": "p/m@2026-01-01",
        "multiplied_by": "1",
        "input": "1.5",
        "output": "2",
    }
    assert model_object("free?", CATALOG, ANONYMOUS, NOW)["x_coe"]["deployments"][0]["prices"] is None


def test_tiers_are_shown():
    """The bound, and the rates of the whole request beyond it."""
    host = M.deployments[0]
    version = replace(host.prices.versions[0], tiers=(Tier(128_000, Rates(3_000_000, 4_123_456)),))
    tiered = replace(M, deployments=(replace(host, prices=replace(host.prices, versions=(version,))),))
    shown = model_object("m", a_catalog(tiered), ANONYMOUS, NOW)["x_coe"]["deployments"][0]["prices"]["tiers"]
    assert shown == [{"above_input_tokens": 128_000, "input": "3", "output": "4.123456"}]


def test_one_host_by_its_address():
    """`provider/model`, by the registry's name or the vendor's own."""
    for name in ("p/m", "p/m-wire"):
        entry = model_object(name, CATALOG, ANONYMOUS, NOW)
        assert entry["id"] == "p/m"
        assert len(entry["x_coe"]["deployments"]) == 1


@pytest.mark.parametrize("name", ["gone", "disabled", "unreachable", "off/m", "nothing", "auto:nothing"])
def test_what_is_not_offered_is_a_404(name):
    """Known or not."""
    with pytest.raises(NotFound) as caught:
        model_object(name, CATALOG, ANONYMOUS, NOW)
    assert caught.value.code == "model_not_found"


def test_auto_and_policies_are_models_too():
    """What SDKs check before they send."""
    assert model_object("auto", CATALOG, ANONYMOUS, NOW)["x_coe"] == {"policy": "balanced"}
    assert model_object("auto:best", CATALOG, ANONYMOUS, NOW)["x_coe"]["objective"] == "max_quality"
