"""The picture: well-formed, labelled, in two languages; lines where the figures put them."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction
from xml.etree import ElementTree as ET

import pytest
from scenery import NOW, a_catalog, a_model

from service.cli.economics_plot import DEEP, LEFT, RIGHT, TOP, WIDTH, WORDS, chosen, svg
from service.cli.economics_tables import Report
from service.domain.comparison import offers
from service.domain.economics import Account, Engine

ENGINE = Engine(8, 3_490_000_000_000, Fraction(3_000), Fraction(300))
NAMESPACE = {"s": "http://www.w3.org/2000/svg"}
FIELD = WIDTH - LEFT - RIGHT


MODELS = (a_model("dear", (3, 9)), a_model("cheap", (0.15, 0.6)))


def a_report(load=Fraction(3, 5), models=MODELS, engine=ENGINE, **more):
    """The worked example at a load."""
    account = Account(engine, engine.traffic_at(load))
    found, unpriced = offers(a_catalog(*models), account, NOW)
    return Report(None, account, "", "", found, unpriced, **more)


def texts(picture):
    return [one.text for one in ET.fromstring(picture).iterfind(".//s:text", NAMESPACE)]  # noqa: S314 # our own text


@pytest.mark.parametrize("lang", WORDS)
def test_labels(lang):
    """Title, both axes, every line, the load now: in the language that was asked for, and inside the picture."""
    picture = svg(a_report(price=2_800_000), lang)
    told, words = texts(picture), WORDS[lang]
    assert {words["title"], words["x"], words["y"], words["now"].format(load="60.0")} <= set(told)
    assert sum("p/" in one for one in told) == 2
    assert any(words["engine"] in one and "670.08" in one for one in told)
    assert any("83.9" in one for one in told)
    assert {"0", "20", "40", "60", "80", "100", "500", "1,000", "1,500"} <= set(told)
    height = int(re.search(r'viewBox="0 0 \d+ (\d+)"', picture)[1])
    for one in ET.fromstring(picture).iterfind(".//s:text", NAMESPACE):  # noqa: S314 # our own text
        assert 0 <= float(one.get("x")) <= WIDTH
        assert 0 <= float(one.get("y")) <= height


def test_both_languages_say_the_same_things():
    """No label is missing in one of them, and Chinese is Chinese."""
    assert {frozenset(words) for words in WORDS.values()} == {frozenset(WORDS["en"])}
    for name, text in WORDS["zh"].items():
        assert re.search(r"[\u4e00-\u9fff]", text) or name == "api"
        assert set(re.findall(r"{\w+}", text)) == set(re.findall(r"{\w+}", WORDS["en"][name]))


def test_lines_meet_where_they_cost_the_same():
    """The dear API and the engine: at 66.29 % of load, on the engine's line. The cheap one meets nothing."""
    picture = ET.fromstring(svg(a_report()))  # noqa: S314 # our own text
    (own,) = [one for one in picture.iterfind(".//s:line", NAMESPACE) if "own" in one.get("class", "").split()]
    assert own.get("y1") == own.get("y2")
    (meeting,) = picture.findall("s:circle", NAMESPACE)
    assert float(meeting.get("cx")) == pytest.approx(LEFT + FIELD * 67_008 / 101_088, abs=0.1)
    assert meeting.get("cy") == own.get("y1")
    assert float(own.get("y1")) == pytest.approx(TOP + DEEP - DEEP * 670.08 / 1_500, abs=0.1)


def test_a_steep_line_leaves_at_the_top():
    """Nothing is drawn outside the field, whatever it costs."""
    picture = ET.fromstring(svg(a_report(models=(a_model("gold", (900, 900)),)), "en", ("p/gold",)))  # noqa: S314 # our own
    ends = [float(one.get(name)) for one in picture.iterfind(".//s:line", NAMESPACE) for name in ("y1", "y2")]
    assert min(ends) >= TOP
    assert max(ends) <= TOP + DEEP


def test_which_apis_are_drawn():
    """Unnamed: near to some multiples of the engine's cost, the best of equals, none that is free. Named: those."""
    dearer = [a_model(f"m{number}", (number, number)) for number in range(1, 30)]
    twin = a_model("twin", (2, 2), quality=0.99)
    report = a_report(models=(*dearer, twin, a_model("free", (0, 0))))
    assert [one.deployment.id for one in chosen(report)] == ["p/m1", "p/twin", "p/m4", "p/m7"]
    assert [one.deployment.id for one in chosen(report, ("p/m9", "p/free"))] == ["p/free", "p/m9"]


def test_an_engine_that_costs_nothing_and_one_that_is_overloaded():
    """Neither divides by nothing; a load beyond the picture is not marked."""
    free = replace(ENGINE, pusd_per_gpu_hour=0)
    for report in (
        a_report(engine=free),
        a_report(engine=free, models=(a_model("free", (0, 0)),)),
        a_report(Fraction(3, 2)),
        a_report(models=()),
    ):
        picture = svg(report, against=tuple(one.deployment.id for one in report.offers))
        assert ET.fromstring(picture) is not None  # noqa: S314 # our own text
        assert ("load now" in picture) == (report.account.load < 1)


def test_a_name_cannot_break_the_picture():
    """Whatever a deployment is called."""
    report = replace(a_report(), name='<script>alert("&")</script>')
    assert any("<script>" in one for one in texts(svg(report)))
    assert "<script>" not in svg(report)
