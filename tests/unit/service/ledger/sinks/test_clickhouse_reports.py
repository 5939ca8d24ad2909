"""Pieces of ClickHouse's reports; whole ones are held against SQLite in tests/properties/test_clickhouse.py."""

from __future__ import annotations

import pytest

from service.ledger.sinks.clickhouse_client import Client, place_of
from service.ledger.sinks.clickhouse_reports import bit, parts, together


@pytest.mark.parametrize("amount", [0, 1, -1, -3, 2**32, -(2**32) - 1, 2**63 - 1, -(2**63)])
def test_money_in_two_parts_is_exact(clickhouse, amount):
    """Of any sign, and for sums that outgrow 64 bits."""
    with Client(place_of(clickhouse.url())) as client:
        text = f"toInt64({amount})" if amount > -(2**63) else "(toInt64(-9223372036854775807) - 1)"
        query = f"SELECT {', '.join(parts('x'))} FROM (SELECT {text} AS x FROM numbers(5))"  # noqa: S608  # Literals of ours.
        assert together(client.rows(query)[0]) == (5 * amount,)


def test_bits_are_told_apart(clickhouse):
    """Each baseline has its own."""
    with Client(place_of(clickhouse.url())) as client:
        query = f"SELECT {', '.join(bit('x', number) for number in range(4))} FROM (SELECT toUInt32(5) AS x)"  # noqa: S608  # Literals of ours.
        assert client.rows(query) == [[1, 0, 1, 0]]
