"""What `coe replay --policy` found, as a table for people and as JSON for programs. Pure functions.

Invariants
1. Money is exact, in USD, and differences are signed: what would have cost more is told as that.
2. What is estimated is called an estimate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import orjson

from service.cli.replay_policy import Books, Comparison, Group
from service.domain.money import usd_text
from service.routing.off_policy import Refused, quality

GROUPS_SHOWN: Final = 40
"""Groups in the table, those with the largest differences; JSON has them all."""

_HEAD: Final = ("from", "to", "intent", "count", "booked_usd", "estimate_usd", "difference_usd", "example")


def as_json(found: Comparison) -> str:
    """One object."""
    return orjson.dumps(plain(found), option=orjson.OPT_INDENT_2).decode() + "\n"


def plain(found: Comparison) -> dict[str, object]:
    """As JSON values."""
    old, books = found.old_pusd, found.books
    return {
        "decisions": found.decisions,
        "same": found.same,
        "changed": found.changed,
        "decided_with_another_registry": found.other_registry,
        "totals": {
            "old_usd": usd_text(old),
            "new_usd": usd_text(found.new_pusd()),
            "difference_usd": usd_text(found.new_pusd() - old),
            "estimated": found.changed > 0,
            "difference_between_usd": [usd_text(found.new_pusd(one) - old) for one in ("low_pusd", "high_pusd")],
        },
        "quality": _quality(found),
        "groups": [_group(key, group) for key, group in _sorted(found)],
        "left_out": [
            {"reason": reason, "count": one.count, "booked_usd": usd_text(one.pusd)}
            for reason, one in sorted(found.left_out.items())
        ],
        "ledger": {
            "attempts": books.attempts,
            "booked_usd": usd_text(books.booked_pusd),
            "computed_again_usd": usd_text(books.again_pusd),
            "difference_usd": usd_text(books.again_pusd - books.booked_pusd),
            "differing_rows": books.differing,
            "unpriced": books.unpriced,
            "simulated": books.simulated,
        },
    }


def as_table(found: Comparison) -> str:
    """Lines for a terminal."""
    books, old, new = found.books, found.old_pusd, found.new_pusd()
    left = sum(one.count for one in found.left_out.values())
    lines = [
        f"{found.decisions:,} decisions: {found.same:,} the same, {found.changed:,} changed, {left:,} left out",
        _books(books),
        *(f"  {line}" for line in books.told),
        f"cost: {usd_text(old)} USD booked, {usd_text(new)} USD under this policy"
        + (" (an estimate)" if found.changed else "")
        + f", difference {_signed(new - old)} USD",
    ]
    if found.changed:
        low, high = (_signed(found.new_pusd(one) - old) for one in ("low_pusd", "high_pusd"))
        lines.append(f"  between {low} and {high} USD: answers of no length, and as long as nine of ten at most are")
    if found.uncounted:
        lines.append(f"  of {found.uncounted:,} changed ones no vendor counted the prompt: its estimate stands")
    if found.other_registry:
        lines.append(
            f"{found.other_registry:,} were decided with another registry or other keys: what changed there need not "
            "come of the policy"
        )
    lines += _told_quality(found)
    groups = _sorted(found)
    if groups:
        rows = [_row(key, group) for key, group in groups[:GROUPS_SHOWN]]
        lines += ["", *_aligned([_HEAD, *rows])]
    if len(groups) > GROUPS_SHOWN:
        lines.append(f"and {len(groups) - GROUPS_SHOWN:,} more groups; --format json has them all")
    if found.left_out:
        lines += ["", "left out:"]
        lines += [
            f"  {one.count:,} {reason}: {usd_text(one.pusd)} USD booked"
            for reason, one in sorted(found.left_out.items())
        ]
    return "\n".join(lines) + "\n"


def _quality(found: Comparison) -> dict[str, object]:
    """The estimate with all that tells how far to trust it, or why there is none."""
    told = quality(found.sums)
    rates = {
        name: {"decisions": rate.count, "judged": rate.judged}
        for name, rate in (("own_choices", found.own), ("drawn_choices", found.drawn))
    }
    rest = {**rates, "judged_elsewhere": found.elsewhere}
    if isinstance(told, Refused):
        return {"refused": told.reason, "judged": told.judged, **rest}
    return {**told._asdict(), **rest}


def _told_quality(found: Comparison) -> list[str]:
    told = quality(found.sums)
    left = [f"  {found.elsewhere:,} judged answers are left out: another model gave them, or the cache"]
    left = left if found.elsewhere else []
    if isinstance(told, Refused):
        return [f"quality: not told, {told.reason}", *left]
    estimate = (
        f"quality: {told.mean:.3f} (95 %: {told.low:.3f} to {told.high:.3f}) for the new policy's own choices; "
        f"as it was answered: {told.logged:.3f}"
    )
    trust = (
        f"  from {told.judged:,} judged answers, {told.changed:,} of them of new choices; effective sample size "
        f"{told.effective:,.0f}, largest weight {told.weight_most:.1f}; about {told.covered:.1%} of what was judged"
    )
    lines = [estimate, trust]
    if found.drawn.count:
        own, drawn = (rate.judged / max(rate.count, 1) for rate in (found.own, found.drawn))
        lines.append(f"  judged were {own:.1%} of the old policy's own choices and {drawn:.1%} of those drawn")
    return lines + left


def _books(books: Books) -> str:
    return (
        f"ledger: {books.attempts:,} attempts booked at {usd_text(books.booked_pusd)} USD, computed again "
        f"{usd_text(books.again_pusd)} USD, difference {_signed(books.again_pusd - books.booked_pusd)}"
    )


def _sorted(found: Comparison) -> list[tuple[tuple[str, str, str], Group]]:
    """The largest differences first."""
    return sorted(found.groups.items(), key=lambda item: (-abs(item[1].new_pusd - item[1].old_pusd), item[0]))


def _group(key: tuple[str, str, str], group: Group) -> Mapping[str, object]:
    return {
        "from": key[0],
        "to": key[1],
        "intent": key[2],
        "count": group.count,
        "old_usd": usd_text(group.old_pusd),
        "estimate_usd": usd_text(group.new_pusd),
        "low_usd": usd_text(group.low_pusd),
        "high_usd": usd_text(group.high_pusd),
        "difference_usd": usd_text(group.new_pusd - group.old_pusd),
        "examples": group.examples,
    }


def _row(key: tuple[str, str, str], group: Group) -> tuple[str, ...]:
    money = usd_text(group.old_pusd), usd_text(group.new_pusd), _signed(group.new_pusd - group.old_pusd)
    return (*key, f"{group.count:,}", *money, group.examples[0])


def _signed(pusd: int) -> str:
    return f"+{usd_text(pusd)}" if pusd > 0 else usd_text(pusd)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns: words to the left, figures to the right."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    figures = range(3, 7)
    return [
        "  ".join(
            cell.rjust(width) if place in figures else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


FORMATS = {"json": as_json, "table": as_table}
