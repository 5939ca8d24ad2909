"""`coe route`: why this model, in a screenful or as JSON; nothing is spent and nobody is called."""

from __future__ import annotations

import json
import re

import pytest
from stage import coe, registry

from service.cli.exits import EX_CONFIG, EX_UNAVAILABLE, EX_USAGE
from service.routing.screen import SCREEN_LINES
from service.simulator import Script

PROMPT = "Translate this sentence into Chinese: the meeting is at three."


@pytest.fixture
def stage(vendors, tmp_path):
    """(runs `coe route`, the vendors)."""
    simulator = vendors({"alpha": Script(), "beta": Script()})
    file = registry(tmp_path / "providers.yaml", simulator)

    def run(*arguments, stdin=None):
        return coe("route", *arguments, "--providers", str(file), stdin=stdin)

    return run, simulator


def test_a_screenful_for_people(stage):
    """Choice, evidence, reason, baseline, candidates."""
    run, simulator = stage
    done = run(PROMPT)
    assert (done.returncode, done.stderr) == (0, "")
    for part in ("→ alpha/alpha-model", "intent", "evidence", "policy    balanced", "beta/beta-model", "baseline"):
        assert part in done.stdout
    assert simulator.log == []


def test_json_for_programs(stage):
    """What POST /v1/route answers, terms included."""
    told = json.loads(stage[0](PROMPT, "--json").stdout)
    assert told["chosen"] == "alpha/alpha-model"
    assert told["intent"]["label"]
    assert told["intent"]["terms"][0]["term"]
    assert told["versions"]["classifier"]


def test_a_named_model_is_not_classified(stage):
    """And an address takes one host; a policy goes with a prompt."""
    run, _ = stage
    assert "the request names its model" in run(PROMPT, "--model", "beta/beta-model").stdout
    assert json.loads(run(PROMPT, "--json", "--policy", "best").stdout)["policy"] == "best"


@pytest.mark.parametrize("source", ["-", "file"])
def test_a_whole_request(stage, source, tmp_path):
    """From a file or stdin: all of its fields count."""
    body = json.dumps(
        {"model": "auto", "messages": [{"role": "user", "content": PROMPT}], "coe": {"deny": ["alpha-model"]}}
    )
    path = tmp_path / "body.json"
    path.write_text(body, encoding="utf-8")
    done = stage[0]("--json", "--body", "-" if source == "-" else str(path), stdin=body.encode())
    assert json.loads(done.stdout)["chosen"] == "beta/beta-model"


def test_a_prompt_from_stdin(stage):
    """`-`, for long ones."""
    done = stage[0]("-", "--json", stdin=PROMPT.encode())
    assert json.loads(done.stdout)["features"]["characters"] == len(PROMPT)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((), EX_USAGE, "give a prompt"),
        (("hi", "--body", "-"), EX_USAGE, "one of them"),
        (("--body", "-", "--model", "auto"), EX_USAGE, "go with a prompt"),
        (("--body", "-", "--policy", "best"), EX_USAGE, "go with a prompt"),
        (("hi", "--model", "alpha-modle"), EX_USAGE, "alpha-model"),
        (("hi", "--policy", "balancde"), EX_USAGE, "balanced"),
        (("--body", "-"), EX_USAGE, "JSON"),
        (("hi", "--frobnicate"), EX_USAGE, "--frobnicate"),
    ],
)
def test_wrong_use(stage, arguments, code, said):
    """64, with what to do."""
    done = stage[0](*arguments, stdin=b"not json")
    assert done.returncode == code
    assert said in done.stderr


@pytest.mark.parametrize(
    ("arguments", "stdin"),
    [((b"a\xff",), None), (("-",), b"a\xff"), (("hi", "--model", b"m\xff"), None), (("hi", "--policy", b"\xff"), None)],
    ids=["argument", "stdin", "model", "policy"],
)
def test_text_that_is_not_utf8_is_64(stage, arguments, stdin):
    """One line, without a traceback; in any locale."""
    for locale in ("C.UTF-8", "C", "POSIX"):
        done = coe("route", *arguments, "--providers", "/none.yaml", stdin=stdin, LC_ALL=locale)
        assert done.returncode == EX_USAGE, done.stderr
        assert done.stderr == "coe: the prompt, --model or --policy is not UTF-8; send the text in UTF-8\n"


def test_nobody_capable_is_69(stage):
    """The constraint is named."""
    body = {"model": "auto", "messages": [{"role": "user", "content": "x"}], "coe": {"min_quality": 1}}
    done = stage[0]("--body", "-", stdin=json.dumps(body).encode())
    assert done.returncode == EX_UNAVAILABLE
    assert "quality: " in done.stderr


def test_without_any_key_it_decides_as_if_there_were(tmp_path):
    """The shipped registry on a fresh machine: a decision, and a note that no key is set."""
    done = coe("route", PROMPT)
    assert done.returncode == 0, done.stderr
    assert "as if every provider had its key" in done.stdout
    assert "would win if" in done.stdout
    assert done.stdout.count("\n") <= SCREEN_LINES
    assert "as if every provider" not in coe("route", PROMPT, "--all-keys").stdout


def test_a_wrong_registry_is_78():
    """As everywhere."""
    assert coe("route", "hi", "--providers", "/none.yaml").returncode == EX_CONFIG


def test_a_budget_on_every_request_is_decided_under(vendors, tmp_path):
    """As by the router: who has no price can't serve. A budget of a tag is not the prompt's."""
    file = registry(tmp_path / "providers.yaml", vendors({"alpha": Script(), "beta": Script()}))
    text = re.sub(r"(name: beta-wire\n +prices:)\n.*\n", r"\1 null\n", file.read_text(encoding="utf-8"))
    reasons = []
    for budget in ("{name: all, usd_per_day: 5}", "{name: hr, tag: hr, usd_per_day: 5}"):
        file.write_text(f"{text}budgets: [{budget}]\n", encoding="utf-8")
        told = json.loads(coe("route", PROMPT, "--json", "--providers", str(file)).stdout)
        reasons.append((told.get("budgeted"), {one["deployment"]: one["reason"] for one in told["rejected"]}))
    assert reasons == [(True, {"beta/beta-model": "price: unknown, and there is a budget"}), (None, {})]
