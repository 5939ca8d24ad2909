"""The check report as plain text: what `coe check` and start-up print.

Where on the path: after `check`. Pure: report in, text out; one finding a line, so that it can be searched.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator

from service.catalog.check import CheckReport, Finding

WIDTH = 100
"""Columns of wrapped lists of names."""


def render(report: CheckReport) -> str:
    """The report as lines without a final newline: counts first, then every list that is not empty."""
    return "\n".join(_lines(report))


def _lines(report: CheckReport) -> Iterator[str]:
    counts = report.counts
    yield f"registry {report.version}"
    yield (
        f"active now: {counts.providers_active} of {counts.providers} providers, "
        f"{counts.models_active} of {counts.models} models, "
        f"{counts.deployments_active} of {counts.deployments} deployments"
    )
    if not report.usable:
        yield "nothing can be called: set the key of at least one provider, or start a local engine"
    yield from _section("budgets", report.budgets)
    yield from _section("policies that nothing active can meet", report.policies)
    if report.baseline is not None:
        yield from _section("baseline", (report.baseline,))
    yield from _section("unpriced deployments", report.unpriced)
    yield from _section("retired models (not offered)", report.retired)
    yield from _section("models that retire soon", report.retiring)
    yield from _section("calendars that end", report.calendars)
    yield from _section("old exchange rates", report.exchange_rates)
    yield from _section("inactive providers", report.inactive_providers)
    yield from _section("models that can't be reached", report.unreachable)
    if report.waiting:
        yield f"models that wait for a key ({len(report.waiting)})"
        names = ", ".join(finding.subject for finding in report.waiting)
        yield from textwrap.wrap(names, WIDTH, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
    if report.notes:
        yield f"notes ({len(report.notes)})"
        yield from (f"  {note}" for note in report.notes)


def _section(title: str, findings: Iterable[Finding]) -> Iterator[str]:
    found = list(findings)
    if found:
        yield f"{title} ({len(found)})"
        yield from (f"  {finding.subject}: {finding.detail}" for finding in found)
