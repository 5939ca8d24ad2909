"""The tables of usage numbers hang together: each number is read once, or passed over with a reason."""

from service.domain.money import BUCKETS
from service.upstream.usage_fields import COST_UNITS_PER_USD, FLAGS, KNOWN, PARTS, PASSED, PLAIN, TOTALS


def test_every_number_has_one_place():
    """No path is read for two buckets, none is read and passed over."""
    read = [path for paths in PARTS.values() for path in paths]
    assert len(read) == len(set(read))
    assert not {*read, *TOTALS} & PASSED.keys()
    assert {*read, *TOTALS, *PASSED} == KNOWN
    assert {(name,) for name in PLAIN} == set(TOTALS)


def test_parts_are_buckets():
    """Each is a bucket of `Usage`; writes without a time to live are those of two buckets."""
    assert PARTS.keys() - {"cache_write"} <= set(BUCKETS)


def test_reasons_and_flags_are_said_in_words():
    """Short, and none twice."""
    for table in (PASSED, FLAGS):
        assert all(5 < len(said) <= 110 for said in table.values())
    assert all(units > 0 for units in COST_UNITS_PER_USD.values())
