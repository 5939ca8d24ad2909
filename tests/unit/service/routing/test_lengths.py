"""The table of answer lengths: what counts for a cell, what is read, what is refused."""

from __future__ import annotations

import json

import pytest

from service.domain.decision import INTENTS
from service.routing.lengths import (
    CELLS_MAX,
    NAME_CHARS_MAX,
    OUTPUT_PRIORS,
    REASONING_MAX,
    SHARE_MAX,
    Length,
    Lengths,
    LengthsError,
    cell,
    from_plain,
    prior_of,
)

MODEL = Length(1_200, 1_100, None, None, 50)
CODING = Length(1_500, 1_400, 700, 1_500, 20)
HARD = Length(2_500, 2_000, 4_000, 9_000, 5)
CELLS = {("m", None, None): MODEL, ("m", "coding", None): CODING, ("m", "coding", "high"): HARD}
TABLE = Lengths(CELLS)


def told(**changes):
    """The table as a file has it, through JSON."""
    return {**json.loads(json.dumps(TABLE.plain({"answers": 50}))), **changes}


def test_every_intent_has_an_output_prior():
    """A new intent without one would be priced as unclassified, in silence."""
    assert set(OUTPUT_PRIORS) == {*INTENTS, "unclassified"}
    assert prior_of("nothing we know") == OUTPUT_PRIORS["unclassified"]
    assert all(prior.high(size) >= prior.expected(size) for prior in OUTPUT_PRIORS.values() for size in (0, 9_000))


def test_the_finest_cell_counts():
    """Intent and effort, then the intent, then the model alone; another model is not known at all."""
    cells = TABLE.of("m")
    assert cell(cells, "coding", "high") is HARD
    assert cell(cells, "coding", "low") is CODING
    assert cell(cells, "math", "high") is MODEL
    assert TABLE.of("other") is None


def test_a_table_survives_its_file():
    """And says of what it was made, which is no part of its version."""
    assert from_plain(told()).cells == CELLS
    assert from_plain(told()).version == TABLE.version
    assert from_plain(told(learned_from={"answers": 9})).version == TABLE.version


def test_equal_tables_have_equal_versions_and_others_do_not():
    """Whatever the order they came in; one figure more or less is another table."""
    assert Lengths(dict(reversed(CELLS.items()))).version == TABLE.version
    assert Lengths({**CELLS, ("m", None, None): Length(1_201, 1_100, None, None, 50)}).version != TABLE.version
    assert TABLE.version.startswith("lengths@")


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "quality"},
        {"format": 2},
        {"cells": {}},
        {"cells": [["m", None, None, 1, 1_000, 1_000, None]]},
        {"cells": [[1, None, None, 1, 1_000, 1_000, None, None]]},
        {"version": "lengths@000000000000"},
        {"version": None},
    ],
)
def test_a_file_that_is_not_in_order_is_refused(changes):
    """Whole: nothing of it is taken."""
    with pytest.raises(LengthsError):
        from_plain(told(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"version": "x" * 1_000_000},
        {"format": ["x" * 100_000] * 3},
        {"cells": [["x" * 1_000_000, None, None, 1, 1, 1, None, None]]},
        {"cells": [["m", "x" * 1_000_000, None, 1, 1, 1, None, None]]},
    ],
)
def test_a_message_does_not_repeat_the_file(changes):
    """It goes to the log, whole."""
    with pytest.raises(LengthsError) as caught:
        from_plain(told(**changes))
    assert len(str(caught.value)) < 400


def test_no_table_and_no_cell_twice():
    """A list, and two lines for one cell, of which either might count."""
    with pytest.raises(LengthsError, match="no table"):
        from_plain([])
    rows = told()["cells"]
    with pytest.raises(LengthsError, match="twice"):
        from_plain(told(cells=[rows[0], *rows]))


@pytest.mark.parametrize(
    ("key", "length"),
    [
        (("", None, None), MODEL),
        (("x" * (NAME_CHARS_MAX + 1), None, None), MODEL),
        (("m", "poetry", None), MODEL),
        (("m", "coding", "extreme"), MODEL),
        (("m", None, "high"), MODEL),
        (("m", None, None), Length(0, 1_000, None, None, 1)),
        (("m", None, None), Length(SHARE_MAX + 1, 1_000, None, None, 1)),
        (("m", None, None), Length(1_000, 1.5, None, None, 1)),
        (("m", None, None), Length(True, 1_000, None, None, 1)),
        (("m", None, None), Length(1_000, 1_000, None, None, 0)),
        (("m", "coding", None), Length(1_000, 1_000, -1, 5, 1)),
        (("m", "coding", None), Length(1_000, 1_000, 5, REASONING_MAX + 1, 1)),
        (("m", "coding", None), Length(1_000, 1_000, 5, None, 1)),
        (("m", "coding", None), Length(1_000, 1_000, 6, 5, 1)),
    ],
)
def test_cells_out_of_range_are_refused(key, length):
    """With the cell's name and what to do."""
    with pytest.raises(LengthsError, match="coe train --lengths"):
        Lengths({key: length})


def test_the_number_of_cells_is_limited():
    """A file of a million cells is no table of ours."""
    many = {(f"m{number}", None, None): MODEL for number in range(CELLS_MAX + 1)}
    with pytest.raises(LengthsError, match="limit"):
        Lengths(many)
