"""`coe economics`, run as a user runs it: where its figures are from, what is refused, and the page that shows a run."""

from __future__ import annotations

import importlib
import json
import re
import shlex
import sys
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import pytest

from service.cli import main
from service.domain.economics import Traffic

module = importlib.import_module("service.cli.economics")

ROOT = Path(__file__).resolve().parents[4]
PAGE = (ROOT / "docs" / "economics.md").read_text(encoding="utf-8")
GIVEN = ["--gpus", "8", "--usd-per-gpu-hour", "3.49", "--input-tokens-per-s", "3000", "--output-tokens-per-s", "300"]

REGISTRY = """\
version: 1
currency: {base: USD, rates: {CNY: 0.14}, as_of: 2026-11-21}
default_policy: cheap
providers:
  own: {base_url: "http://127.0.0.1:9/v1", protocol: openai_chat, region: onprem}
  acme: {base_url: "https://acme.example/v1", protocol: openai_chat, region: eu, api_key: "${env:ACME_KEY}"}
models:
  ours:
    context_tokens: 100000
    quality: {default: 0.9}
    deployments:
      - provider: own
        name: ours
        self_hosted: {gpus: 8, usd_per_gpu_hour: 3.49, input_tokens_per_s: 3000, output_tokens_per_s: 300, utilization: 0.6}
  small:
    context_tokens: 100000
    quality: {default: 0.7}
    deployments:
      - {provider: acme, name: s, prices: [{from: 2026-01-01, input: 0.15, cache_read: 0.015, output: 0.60}]}
  large:
    context_tokens: 100000
    quality: {default: 0.95}
    deployments:
      - provider: acme
        name: l
        prices: [{from: 2026-01-01, input: 3, output: 9, request: 0.001, tiers: [{above_input_tokens: 2000, input: 6, output: 18}]}]
policies:
  cheap: {objective: min_cost}
"""


class Run(NamedTuple):
    """What a run of the command left."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def json(self):
        return json.loads(self.stdout)


@pytest.fixture
def coe(monkeypatch, capsys, tmp_path):
    """Run `coe economics` through the console script's own entrance, on the registry above."""
    file = tmp_path / "providers.yaml"
    file.write_text(REGISTRY, encoding="utf-8")
    monkeypatch.delenv("ACME_KEY", raising=False)
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["coe", "economics", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        return Run(int(ended.value.code or 0), *capsys.readouterr())

    return run


def test_the_worked_example_from_options(coe):
    """Exactly as specified."""
    run = coe(*GIVEN, "--price-per-million", "2.80")
    assert (run.returncode, run.stderr) == (0, "")
    for figure in (
        "670.08 USD a day",
        "285,120,000 a day",
        "2.350168 USD per 1M",
        "798.34 USD a day",
        "128.26 USD a day",
    ):
        assert figure in run.stdout
    assert re.search(r"^margin +16\.07 %", run.stdout, re.MULTILINE)
    assert re.search(r"^break-even load +83\.93 %", run.stdout, re.MULTILINE)
    assert re.search(r"^break-even GPU hour +4\.158000 USD", run.stdout, re.MULTILINE)
    assert "first acme/small at 54.43 USD a day" in run.stdout
    assert "2 of these APIs can't be called from here" in run.stdout


def test_from_the_registry(coe):
    """As declared, at the declared load: the price that the ledger books. An option goes over what is declared."""
    declared = coe("--deployment", "own/ours", "--format", "json").json
    assert declared["own"]["usd_per_million"] == "3.916947"
    assert (declared["own"]["load"], declared["own"]["tokens_per_day"]) == ("0.600000", "171072000")
    assert declared["engine"]["deployment"] == "own/ours"
    assert [one["deployment"] for one in declared["apis"]] == ["acme/small", "acme/large"]
    full = coe("--deployment", "own/ours", "--format", "json", "--utilization", "1").json
    assert full["own"]["usd_per_million"] == "2.350168"
    half = coe("--deployment", "own/ours", "--format", "json", "--utilization", "1", "--gpus", "4").json
    assert half["own"]["usd_per_day"] == "335.04"
    hour = coe("--deployment", "own/ours", "--format", "json", "--usd-per-gpu-hour", "0").json
    assert (hour["own"]["usd_per_day"], hour["own"]["usd_per_million"]) == ("0", "0.000000")


def test_the_same_traffic_of_another_kind(coe):
    """Cached input, large requests and fees: half of 259.2 M at 0.015 and half at 0.15; 3,000 tokens a request move the tier."""
    run = coe(
        *GIVEN, "--format", "json", "--cache-share", "0.5", "--request-tokens", "3000", "--output-ratio", "4"
    ).json
    small, large = run["apis"]
    assert small["usd_per_day"] == "36.936"
    assert large["usd_per_day"] == "2108.16"  # 259.2 x 6 + 25.92 x 18 + 86,400 requests x 0.001
    assert (run["own"]["input_usd_per_million"], run["own"]["output_usd_per_million"]) == ("1.846561", "7.386243")


def test_only_models_that_are_good_enough(coe):
    """By the registry's default quality, which may be just so much."""
    run = coe(*GIVEN, "--min-quality", "0.95", "--format", "json").json
    assert [one["deployment"] for one in run["apis"]] == ["acme/large"]


def test_measured_throughput(coe, tmp_path):
    """The options are not asked for what was measured."""
    path = tmp_path / "m.jsonl"
    path.write_text('{"seconds": 60, "input_tokens": 180000, "output_tokens": 18000}\n' * 2, encoding="utf-8")
    run = coe(*GIVEN[:4], "--measured", path)
    assert "throughput measured over 120 s" in run.stdout
    assert "2.350168" in run.stdout
    assert coe("--deployment", "own/ours", "--measured", path).returncode == 0
    assert "--measured says the throughput" in coe(*GIVEN, "--measured", path).stderr


def test_traffic_from_the_ledger(coe, monkeypatch, tmp_path):
    """What the ledger tells is taken; options go over it; a load above 1 and another mix are said."""
    asked = []

    def told(data_dir, since, until, deployment):
        asked.append((data_dir, until - since, deployment))
        return Traffic(Fraction(570_240_000), Fraction(1), Fraction(1, 4), Fraction(500))

    monkeypatch.setattr(module, "traffic_of", told)
    run = coe("--deployment", "own/ours", "--since", "7d", "--data-dir", tmp_path, "--format", "json").json
    assert asked == [(tmp_path, timedelta(days=7), "own/ours")]
    assert run["own"]["load"] == "2.000000"
    assert (run["traffic"]["cache_share"], run["traffic"]["request_input_tokens"]) == ("0.250000", "500")
    assert any("more than the engine can do" in one for one in run["notes"])
    assert any("another mix" in one for one in run["notes"])
    run = coe(*GIVEN, "--since", "7d", "--cache-share", "0", "--request-tokens", "9", "--format", "json").json
    assert asked[-1][2] is None
    assert (run["traffic"]["cache_share"], run["traffic"]["request_input_tokens"]) == ("0.000000", "9")


def test_no_ledger(coe, tmp_path):
    """Nothing to go by: 69."""
    run = coe(*GIVEN, "--since", "7d", "--data-dir", tmp_path)
    assert (run.returncode, run.stdout) == (69, "")
    assert "no tokens of anybody" in run.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            [],
            "missing: --gpus, --usd-per-gpu-hour, --input-tokens-per-s, --output-tokens-per-s; or --deployment own/ours",
        ),
        (GIVEN[2:], "missing: --gpus; or"),
        (["--deployment", "own/our"], "did you mean own/ours?"),
        (["--deployment", "nobody"], "this registry has own/ours"),
        (["--deployment", "acme/small"], "is no engine of your own (no self_hosted); this registry has own/ours"),
        ([*GIVEN, "--utilization", "0"], "'0' is not a number with at most 6 decimals above 0 up to 1"),
        ([*GIVEN, "--utilization", "1.1"], "above 0 up to 1"),
        ([*GIVEN, "--utilization", "60%"], "above 0 up to 1"),
        ([*GIVEN, "--gpus", "1.5"], "'1.5' is not a whole number from 1 up to 100,000"),
        ([*GIVEN, "--gpus", "0"], "whole number from 1"),
        ([*GIVEN, "--usd-per-gpu-hour", "-1"], "from 0 up to 10,000"),
        ([*GIVEN, "--usd-per-gpu-hour", "1e3"], "from 0 up to 10,000"),
        ([*GIVEN, "--usd-per-gpu-hour", "nan"], "from 0 up to 10,000"),
        ([*GIVEN, "--price-per-million", "2.1234567"], "at most 6 decimals"),
        ([*GIVEN, "--output-ratio", "0"], "above 0 up to 1,000"),
        ([*GIVEN, "--input-tokens-per-s", "0", "--output-tokens-per-s", "0"], "the engine does no tokens"),
        ([*GIVEN, "--since", "7d", "--utilization", "0.5"], "leave out --utilization"),
        ([*GIVEN, "--since", "2999-01-01"], "--since must be in the past"),
        ([*GIVEN, "--since", "soon"], "--since: 'soon' is no date"),
        ([*GIVEN, "--lang", "zh"], "add --plot FILE"),
        ([*GIVEN, "--against", "acme/small"], "add --plot FILE"),
        ([*GIVEN, "--plot", "x.svg", "--against", "acme/smal"], "did you mean acme/small?"),
        ([*GIVEN, "--plot", "x.svg", "--lang", "fr"], "'fr' is not one of"),
        ([*GIVEN, "--measured", "none.jsonl"], "does not exist"),
    ],
)
def test_wrong_use_says_what_to_write(coe, tmp_path, arguments, said):
    """64, nothing on stdout, no picture."""
    run = coe(*arguments)
    assert (run.returncode, run.stdout) == (64, "")
    assert said in re.sub(r"\s+", " ", run.stderr)
    assert not (tmp_path / "x.svg").exists()


def test_the_plot_is_written(coe, tmp_path):
    """In the language asked for; a place that can't be written ends with 73 and no report."""
    assert coe(*GIVEN, "--plot", tmp_path / "p.svg", "--lang", "zh", "--against", "acme/large").returncode == 0
    picture = (tmp_path / "p.svg").read_text(encoding="utf-8")
    assert "acme/large" in picture
    assert "acme/small" not in picture
    assert "自建引擎" in picture
    run = coe(*GIVEN, "--plot", tmp_path / "no" / "p.svg")
    assert (run.returncode, run.stdout) == (73, "")


def test_a_registry_without_an_engine_and_one_that_is_wrong(coe, tmp_path):
    """Says what to give instead; a file that does not load ends with 78, as everywhere."""
    file = tmp_path / "providers.yaml"
    priced = re.sub(r"self_hosted: .*", "prices: null", REGISTRY)
    file.write_text(priced, encoding="utf-8")
    assert "this registry has none; give --gpus" in re.sub(r"\s+", " ", coe("--deployment", "own/ours").stderr)
    assert "; or --deployment" not in coe().stderr
    assert "1 deployments have no known price" in coe(*GIVEN).stdout
    file.write_text(REGISTRY + "nonsense: 1\n", encoding="utf-8")
    assert coe(*GIVEN).returncode == 78


@pytest.mark.parametrize("shape", ["table", "csv", "json"])
def test_every_format(coe, shape):
    """By its name."""
    assert "670.08" in coe(*GIVEN, "--format", shape).stdout


def test_the_page_shows_a_real_run(coe, tmp_path):
    """Registry, command, output and both pictures of docs/economics.md belong together, to the byte."""
    registry = re.search(r"```yaml\n(version: 1\n.*?)```", PAGE, re.DOTALL)[1]
    (tmp_path / "providers.yaml").write_text(registry, encoding="utf-8")
    command, output = re.search(r"```\n\$ coe economics ([^\n]*)\n(.*?)```", PAGE, re.DOTALL).groups()
    plotted = shlex.split(command.replace("docs/plots/", ""))
    assert coe(*plotted).stdout == output
    for name, lang in (("economics.svg", "en"), ("economics-zh.svg", "zh")):
        assert f"plots/{name}" in PAGE
        coe(*plotted, "--plot", name, "--lang", lang)
        assert (tmp_path / name).read_bytes() == (ROOT / "docs" / "plots" / name).read_bytes()


def test_the_moment_is_now(coe, monkeypatch):
    """Prices are those of the day on which one asks."""
    seen = []
    real = module.offers

    def watched(catalog, account, at):
        seen.append(at)
        return real(catalog, account, at)

    monkeypatch.setattr(module, "offers", watched)
    coe(*GIVEN)
    assert abs(seen[0] - datetime.now(UTC)) < timedelta(minutes=1)
