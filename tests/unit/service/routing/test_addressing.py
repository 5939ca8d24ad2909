"""What `model` of a request may be, and what a wrong one gets."""

from __future__ import annotations

import pytest
from scenery import a_catalog, a_model

from service.errors import NotFound
from service.routing.addressing import resolve

CATALOG = a_catalog(a_model("gpt-6", at=("openai", "azure")), a_model("qwen/qwen-max"), a_model("deepseek-flash"))


def ids(requested):
    """The deployments that a name means."""
    return [one.id for one in resolve(requested, CATALOG).deployments or ()]


def test_auto_means_everything():
    """`auto` pins nothing and follows no policy of its own."""
    found = resolve("auto", CATALOG)
    assert (found.deployments, found.policy, found.pinned) == (None, None, False)


def test_auto_with_a_policy():
    """`auto:best` follows it and still pins nothing."""
    found = resolve("auto:best", CATALOG)
    assert (found.policy, found.pinned) == ("best", False)


def test_a_model_means_all_of_its_hosts():
    """A plain model name is every deployment of it, in the order of the file."""
    assert ids("gpt-6") == ["openai/gpt-6", "azure/gpt-6"]
    assert resolve("gpt-6", CATALOG).pinned


@pytest.mark.parametrize("requested", ["azure/gpt-6", "azure/gpt-6-wire"])
def test_a_host_and_a_model_mean_one_deployment(requested):
    """`provider/model` takes the registry's name and the vendor's own."""
    assert ids(requested) == ["azure/gpt-6"]


def test_a_model_name_with_a_slash_is_a_model():
    """Registry names win over reading the slash as a provider."""
    assert ids("qwen/qwen-max") == ["p/qwen/qwen-max"]


def test_the_single_plan_is_known():
    """`plan:single` is what every request gets."""
    assert resolve("plan:single", CATALOG).plan == "single"


@pytest.mark.parametrize(
    ("requested", "near"),
    [
        ("gpt-66", "gpt-6"),
        ("deepseek-flsh", "deepseek-flash"),
        ("azure/gpt-7", "azure/gpt-6"),
        ("auto:chep", "cheap"),
        ("plan:singel", "single"),
        ("nothing-like-it", "GET /v1/models"),
        ("", "GET /v1/models"),
        ("AUTO", "GET /v1/models"),
    ],
)
def test_unknown_names_are_404_with_the_nearest(requested, near):
    """Never a silent substitute: 404 `model_not_found` on `model`, and what was probably meant."""
    with pytest.raises(NotFound) as caught:
        resolve(requested, CATALOG)
    problem = caught.value
    assert (problem.status, problem.code, problem.param) == (404, "model_not_found", "model")
    assert near in problem.message
