"""Cases against decisions: each expectation can fail, and a failure says what was decided instead."""

from __future__ import annotations

from pathlib import Path

import pytest
from scenery import NOW, WordClassifier

from service.catalog.load import load
from service.cli.policy_cases import read_cases
from service.cli.policy_runs import run
from service.errors import RegistryError

SMALL = Path(__file__).resolve().parents[3] / "policies" / "registries" / "small.yaml"


def verdict(folder, case, head=""):
    """The verdict on one case, written as YAML in one line."""
    path = folder / "cases.yaml"
    path.write_text(f"at: 2026-11-21T12:00Z\n{head}cases:\n  - {case}\n", encoding="utf-8")
    (found,) = run([read_cases(path)], load(SMALL, {}, now=NOW), WordClassifier())
    return found


def expecting(folder, expect, more='prompt: "what is it"'):
    """The verdict on a request about facts that goes to south/plain."""
    return verdict(folder, f"{{name: x, {more}, expect: {{{expect}}}}}")


HOLDS_AND_FAILS = [
    ("must: plain", "must: [zeta, grand]", "must be one of zeta, grand"),
    ("must_not: [zeta]", "must_not: [south]", "must not be one of south"),
    ('all_must: ["tag:public", "tag:private"]', 'all_must: ["tag:public"]', "not so: cellar/vault"),
    ("none_may: [], intent: factual_qa", 'none_may: ["region:us"]', "nobody may be one of region:us"),
    ("order: [south/plain, south/grand]", "order: [south/grand, south/plain]", "they stand south/plain, south/grand"),
    ("intent: [factual_qa, math]", "intent: coding", "the intent must be coding; it is factual_qa"),
    ("language: en", "language: zh", "the language must be zh; it is en"),
    ("reason_code: cheapest_capable", "reason_code: pinned", "the reason must be pinned; it is cheapest_capable"),
    ("policy: balanced", "policy: best", "the policy must be best; it is balanced"),
    ("degraded: []", "degraded: [quality_floor]", "given up must be ['quality_floor']; it is []"),
    ("min_quality: 0.80", "min_quality: 0.81", "its quality must be at least 0.81; it is 0.8000"),
    ("max_expected_cost_usd: 0.001", "max_expected_cost_usd: 0.00001", "expected to cost at most 0.00001 USD; it is"),
    ("max_share_of_baseline: 0.01", "max_share_of_baseline: 0.009", "at most 0.009 of the baseline's"),
]


@pytest.mark.parametrize(("holds", "fails", "told"), HOLDS_AND_FAILS, ids=[one for one, _, _ in HOLDS_AND_FAILS])
def test_an_expectation_holds_or_fails(tmp_path, holds, fails, told):
    """Both ways, so that none of them is deaf; what was found is told with its reason."""
    good = expecting(tmp_path, holds)
    assert good.passed, good.told()
    bad = expecting(tmp_path, fails)
    assert not bad.passed
    assert told in bad.told()
    assert f"{tmp_path / 'cases.yaml'}:3: x" in bad.told()
    assert "found: south/plain at" in bad.told()
    assert "cheapest of" in bad.told()
    assert "what is it" not in bad.told()


def test_who_is_rejected_and_why(tmp_path):
    """Another kind of reason fails, and so does one that can serve."""
    limit = 'prompt: "x", coe: {max_cost_usd: 0.005}'
    assert expecting(tmp_path, "rejected: {south/grand: cost, north/riddle: price}", limit).passed
    assert "but: cost: an answer may cost more" in expecting(tmp_path, "rejected: {south/grand: deny}", limit).told()
    assert "it can serve" in expecting(tmp_path, "rejected: {south/plain: cost}", limit).told()


def test_a_refusal_is_expected_or_it_fails(tmp_path):
    """By its code; a refusal that nobody expected tells its message."""
    denied = 'prompt: "x", coe: {allow: ["tag:private"], deny: ["tag:private"]}'
    assert expecting(tmp_path, "error: no_capable_model", denied).passed
    other = expecting(tmp_path, "error: model_not_found", denied).told()
    assert "expected the error model_not_found" in other
    assert "found: no_capable_model: no model can serve this request" in other
    assert "expected a decision" in expecting(tmp_path, "must: plain", denied).told()
    assert "expected the error no_capable_model" in expecting(tmp_path, "error: no_capable_model").told()


def test_turns_bodies_headers_and_keys_reach_the_decision(tmp_path):
    """Each of them alone moves it."""
    assert expecting(tmp_path, "intent: coding", 'turns: ["hi", "hello", "code please"]').passed
    assert expecting(tmp_path, "intent: factual_qa", 'turns: ["code please", "hello", "hi"]').passed
    body = "body: {messages: [{role: user, content: code}], coe: {min_quality: 0.95}}"
    assert expecting(tmp_path, "must: grand, intent: coding", body).passed
    assert expecting(tmp_path, "must: grand", 'prompt: "x", headers: {X-Coe-Min-Quality: "0.95"}').passed
    assert expecting(tmp_path, "must: vault", 'prompt: "x", key: {models: [vault]}').passed
    assert expecting(tmp_path, "route: staff", 'prompt: "x", key: {tags: [staff]}').passed
    assert expecting(tmp_path, "rejected: {south/plain: context}", 'prompt: "word ", repeat: 30000').passed
    assert expecting(tmp_path, "policy: pinned, intent: unclassified", 'prompt: "x", model: grand').passed


def test_the_registry_of_a_file_goes_before_the_one_that_is_checked(tmp_path):
    """And no key of this machine is needed."""
    (tmp_path / "own.yaml").write_text(SMALL.read_text(encoding="utf-8").replace("plain", "simple"), encoding="utf-8")
    head = "registry: own.yaml\n"
    assert verdict(tmp_path, "{name: x, prompt: hi there, expect: {must: simple}}", head).passed
    with pytest.raises(RegistryError, match=r"cases.yaml:4:49: unknown model, provider, region or tag 'plain'"):
        verdict(tmp_path, "{name: x, prompt: hi there, expect: {must: [plain]}}", head)


@pytest.mark.parametrize(
    ("expect", "problem"),
    [
        ("must: [zeta, plane]", "3:59: unknown model, provider, region or tag 'plane'; did you mean 'plain'?"),
        ('none_may: ["region:ue"]', "'region:ue'; did you mean 'region:us'?"),
        ("rejected: {south/plane: cost}", "unknown deployment 'south/plane'; did you mean 'south/plain'?"),
        ("order: [north/plain, south/plane]", "did you mean 'south/plain'?"),
        ("policy: balansed", "unknown policy 'balansed'; did you mean 'balanced'?"),
        ("route: staf", "unknown route 'staf'; did you mean 'staff'?"),
    ],
)
def test_a_name_that_the_registry_does_not_have_is_a_mistake(tmp_path, expect, problem):
    """A misspelt `must_not` would hold for ever."""
    with pytest.raises(RegistryError) as caught:
        expecting(tmp_path, expect)
    assert problem in str(caught.value)


def test_budgets_of_the_registry_apply_to_cases(tmp_path):
    """By the tags of the case's key and those that its request says, as to any request."""
    registry = tmp_path / "providers.yaml"
    budgets = "budgets: [{name: lab, tag: lab, usd_per_day: 5}]\n"
    registry.write_text(SMALL.read_text(encoding="utf-8") + budgets, encoding="utf-8")
    catalog, path = load(registry, {}, now=NOW), tmp_path / "cases.yaml"
    unpriced = "prompt: x, expect: {rejected: {north/riddle: price}}"
    cases = [
        f"{{name: key, key: {{tags: [lab]}}, {unpriced}}}",
        f"{{name: said, coe: {{tags: [lab]}}, {unpriced}}}",
        f"{{name: neither, key: {{tags: [hr]}}, {unpriced}}}",
    ]
    path.write_text("at: 2026-11-21T12:00Z\ncases:\n" + "".join(f"  - {case}\n" for case in cases), encoding="utf-8")
    assert [one.passed for one in run([read_cases(path)], catalog, WordClassifier())] == [True, True, False]
