"""Limits hold after the classifier: whatever it says and whatever is best, nobody who breaks one is ever ranked."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenery import a_catalog, a_chat, a_model, decided

from service.domain.catalog import PolicySpec, Provider, Selector
from service.domain.decision import INTENTS, Intent
from service.errors import NoCandidate
from service.routing.policies import POLICIES

HOSTS = (
    Provider("ice", "https://ice.example/v1", region="eu", tags=frozenset({"private", "cold"})),
    Provider("sun", "https://sun.example/v1", region="us", tags=frozenset({"public"})),
    Provider("sea", "https://sea.example/v1", region="cn", tags=frozenset({"public", "cold"})),
)
SHARES = st.sampled_from([0.0, 0.5, 0.9, 0.93, 0.99999, 1.0]) | st.floats(0, 1)
CEILINGS = st.none() | st.builds(lambda digits, zeros: digits * 10**zeros, st.integers(10, 99), st.integers(6, 10))
MODELS = st.lists(
    st.tuples(
        st.dictionaries(st.sampled_from(("default", *INTENTS)), SHARES, max_size=4),
        st.none() | st.sampled_from([(0, 0), (0.1, 0.4), (1, 1), (1, 4), (10, 40), (90, 90)]),
        st.sets(st.sampled_from(range(len(HOSTS))), min_size=1),
    ),
    min_size=3,
    max_size=6,
)
READINGS = st.builds(
    lambda label, masses, abstained, language: Intent(
        label,
        max(masses),
        dict(zip(INTENTS, (one / (sum(masses) or 1) for one in masses), strict=True)),
        language,
        abstained,
    ),
    st.sampled_from(INTENTS),
    st.lists(SHARES, min_size=len(INTENTS), max_size=len(INTENTS)),
    st.booleans(),
    st.sampled_from(["en", "zh", "other", "und"]),
)
NAMES = {
    "models": ["m0", "m1", "m2", "ice/m0", "sun/m1"],
    "providers": [one.name for one in HOSTS],
    "regions": ["eu", "us", "cn"],
    "tags": ["private", "public", "cold"],
}
ONE_KIND = st.sampled_from(sorted(NAMES)).flatmap(
    lambda kind: st.builds(Selector, **{kind: st.frozensets(st.sampled_from(NAMES[kind]), min_size=1, max_size=2)})
)
SELECTORS = st.just(Selector()) | ONE_KIND
LIMITS = st.tuples(SELECTORS, SELECTORS, CEILINGS)


def names_of(deployment, kind):
    """What a deployment is called, by kind of name: written here once more, on purpose."""
    provider = deployment.provider
    return {
        "models": {deployment.model, deployment.id},
        "providers": {provider.name},
        "regions": {provider.region},
        "tags": provider.tags,
    }[kind]


def breaks(deployment, allow, deny):
    """Whether a deployment is not allowed, or denied."""
    for kind in ("models", "providers", "regions", "tags"):
        wanted, kept_out = getattr(allow, kind), getattr(deny, kind)
        if (wanted and not wanted & names_of(deployment, kind)) or kept_out & names_of(deployment, kind):
            return True
    return False


def asked(selector):
    """A selector as a body has it, with names that the registry has."""
    return {
        kind: sorted(getattr(selector, kind))
        for kind in ("models", "providers", "regions", "tags")
        if getattr(selector, kind)
    }


@pytest.mark.parametrize("objective", POLICIES)
@settings(max_examples=150, deadline=None)
@given(
    models=MODELS,
    intent=READINGS,
    of_policy=LIMITS,
    of_caller=LIMITS,
    least=st.none() | SHARES,
    pinned=st.booleans(),
    size=st.sampled_from([1, 400, 5_000]),
)
def test_nobody_who_breaks_a_limit_is_ranked(objective, models, intent, of_policy, of_caller, least, pinned, size):
    """The policy's and the caller's ceilings, lists, regions, tags and the caller's floor, for every objective."""
    made = [
        a_model(f"m{number}", listed, quality=quality, at=tuple(HOSTS[place] for place in sorted(hosts | {number % 3})))
        for number, (quality, listed, hosts) in enumerate(models)
    ]
    # Every name that a limit may use exists: one model that can't be called carries those of hosts that nobody drew.
    made.append(replace(a_model("names", at=HOSTS), inactive_reason="off"))
    allow, deny, ceiling = of_policy
    spec = PolicySpec(
        "balanced", objective, min_quality=0.5, max_cost_pusd=ceiling, allow=allow, deny=deny, pusd_per_quality=10**10
    )
    own_allow, own_deny, own_ceiling = of_caller
    coe = {"allow": asked(own_allow), "deny": asked(own_deny), "min_quality": least, "policy": "balanced"}
    coe["max_cost_usd"] = None if own_ceiling is None else own_ceiling / 10**12
    chat = a_chat("word " * size, model="m0" if pinned else "auto", coe=coe)
    try:
        decision = decided(chat, a_catalog(*made, policies={"balanced": spec}), intent=intent)
    except NoCandidate:
        return
    limit = min((one for one in (ceiling, chat.steering.max_cost_pusd) if one is not None), default=None)
    for one in decision.ranked:
        assert not breaks(one.deployment, allow, deny), one.deployment.id
        assert not breaks(one.deployment, own_allow, own_deny), one.deployment.id
        assert least is None or one.quality >= least
        if limit is not None:
            assert one.expected_cost_pusd is not None
            assert one.expected_cost_pusd <= one.reserved_pusd <= limit
