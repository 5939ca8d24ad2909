"""`coe economics`: what an engine of one's own costs, where it breaks even, and which API would be cheaper.

Where on the path: beside it. Reads the registry, and where asked a file of measurements or the ledger; calls nobody.

Invariants
1. Numbers are read exactly as written, as decimals; what is no number, or out of bounds, is refused with what to write.
2. The report is on stdout and nothing else is; a plot goes into its file.
3. What an option says goes over what the registry declares: that is how one asks "what if".
"""

from __future__ import annotations

import difflib
import re
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, NamedTuple, TypedDict, Unpack

import click

from service.cli.costs import parse_moment
from service.cli.economics_plot import WORDS, svg
from service.cli.economics_tables import FORMATS, Report
from service.cli.economics_traffic import EXAMPLE, Throughput, read_measured, traffic_of
from service.cli.settings import DATA_DIR, PROVIDERS, exits, read_settings
from service.domain.catalog import Catalog
from service.domain.comparison import offers
from service.domain.economics import Account, Engine, Traffic, fixed
from service.domain.money import PICO_PER_TOKEN, pusd_from_usd
from service.domain.prices import SelfHosted
from service.startup import read_registry

_SHAPE: Final = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,6})?")
PPM: Final = 1_000_000


class Amount(click.ParamType[Decimal]):
    """An exact decimal between bounds, with at most six decimals; `above` excludes the lower one."""

    name = "number"

    def __init__(self, least: int, most: int, *, above: bool = False, whole: bool = False) -> None:
        self.least, self.most, self.above, self.whole = least, most, above, whole

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Decimal:  # noqa: ANN401 # click's own signature
        """The number as written."""
        if isinstance(value, Decimal):
            return value
        if _SHAPE.fullmatch(str(value)):
            number = Decimal(str(value))
            whole = not self.whole or number == number.to_integral_value()
            if whole and self.least <= number <= self.most and (number > self.least or not self.above):
                return number
        kind = "a whole number" if self.whole else "a number with at most 6 decimals"
        low = f"above {self.least}" if self.above else f"from {self.least}"
        return self.fail(f"{str(value)!r} is not {kind} {low} up to {self.most:,}", param, ctx)


class Said(TypedDict):
    """What the options said, as click hands it over; `None` is nothing said."""

    deployment: str | None
    gpus: Decimal | None
    usd_per_gpu_hour: Decimal | None
    input_tokens_per_s: Decimal | None
    output_tokens_per_s: Decimal | None
    measured: Path | None
    utilization: Decimal | None
    since: str | None
    price_per_million: Decimal | None
    output_ratio: Decimal | None
    cache_share: Decimal | None
    request_tokens: Decimal | None
    min_quality: Decimal | None
    shape: str
    plot: Path | None
    against: tuple[str, ...]
    lang: str | None
    data_dir: Path
    providers: Path | None


@click.command("economics")
@click.option("--deployment", metavar="PROVIDER/MODEL", help="A deployment of the registry that has `self_hosted`.")
@click.option("--gpus", type=Amount(1, 100_000, whole=True), help="GPUs that the engine runs on.")
@click.option("--usd-per-gpu-hour", type=Amount(0, 10_000), help="USD per GPU and hour, all in.")
@click.option("--input-tokens-per-s", type=Amount(0, 10**8), help="Input tokens per second at full load.")
@click.option("--output-tokens-per-s", type=Amount(0, 10**8), help="Output tokens per second at full load.")
@click.option(
    "--measured",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help=f"Throughput at full load from your own measurements: JSON lines such as {EXAMPLE}.",
)
@click.option(
    "--utilization",
    type=Amount(0, 1, above=True),
    help="Share of full load that is used. Default: the registry's, or 1.",
)
@click.option(
    "--since", metavar="WHEN", help="The day's traffic is the ledger's mean since then: 7d ago, 2026-11-01. UTC."
)
@click.option(
    "--price-per-million", type=Amount(0, 100_000), help="What 1M tokens are sold for, in USD: profit, margin."
)
@click.option(
    "--output-ratio",
    type=Amount(0, 1_000, above=True),
    help="Input tokens that an output token is worth: splits the cost.",
)
@click.option("--cache-share", type=Amount(0, 1), help="Share of the input that an API would read from its cache.")
@click.option(
    "--request-tokens", type=Amount(1, 10**9), help="Input tokens of a request: for tiers and fees. Default 1000."
)
@click.option("--min-quality", type=Amount(0, 1), help="Compare only with models of at least this quality (`default`).")
@click.option("--format", "shape", type=click.Choice(sorted(FORMATS)), default="table", show_default=True)
@click.option(
    "--plot", type=click.Path(path_type=Path, dir_okay=False), help="Write the cost over load to an SVG file."
)
@click.option("--against", multiple=True, metavar="PROVIDER/MODEL", help="With --plot: an API to draw. Repeatable.")
@click.option("--lang", type=click.Choice(sorted(WORDS)), help="With --plot: the language of its labels. Default en.")
@DATA_DIR
@PROVIDERS
def economics(**said: Unpack[Said]) -> None:
    """Break-even of an engine of your own, and what the same traffic costs at every API of the registry."""
    _refuse_contradictions(said)
    now = datetime.now(UTC)
    since = None if said["since"] is None else parse_moment(said["since"], now, option="--since", is_end=False)
    if since is not None and since >= now:
        raise click.UsageError("--since must be in the past: there is no traffic after now.")
    settings = read_settings(providers=said["providers"])
    with exits():
        catalog = read_registry(settings, now)
        report = _report(said, catalog, since, now)
        if said["plot"] is not None:
            _known(said["against"], report)
            said["plot"].write_text(svg(report, said["lang"] or "en", said["against"]), encoding="utf-8")
        click.echo(FORMATS[said["shape"]](report), nl=False)


def _refuse_contradictions(said: Said) -> None:
    """Raise a usage error for options that say two things about one figure, or nothing at all."""
    if said["measured"] is not None and (said["input_tokens_per_s"], said["output_tokens_per_s"]) != (None, None):
        raise click.UsageError(
            "--measured says the throughput; leave out --input-tokens-per-s and --output-tokens-per-s"
        )
    if said["since"] is not None and said["utilization"] is not None:
        raise click.UsageError("--since takes the traffic from the ledger; leave out --utilization")
    if said["plot"] is None and (said["lang"] is not None or said["against"]):
        raise click.UsageError("--lang and --against are about the plot; add --plot FILE")


def _report(said: Said, catalog: Catalog, since: datetime | None, now: datetime) -> Report:
    """All figures. Ends the program or raises a usage error for what makes no sense."""
    declared = None if said["deployment"] is None else _declared(said["deployment"], catalog)
    engine, throughput = _engine(said, declared, catalog)
    traffic, told, load = _traffic(said, engine, declared, since, now)
    account = Account(engine, traffic)
    found, unpriced = offers(catalog, account, now)
    least = float(said["min_quality"] or 0)  # a quality is no money: the registry keeps it as a float
    found = tuple(one for one in found if one.model.quality_for("default") >= least)
    price, ratio = said["price_per_million"], said["output_ratio"]
    return Report(
        said["deployment"],
        account,
        throughput,
        told,
        found,
        unpriced,
        None if price is None else int(price * PICO_PER_TOKEN),
        None if ratio is None else Fraction(ratio),
        _notes(account, load, len(unpriced), sum(1 for one in found if one.obstacle is not None)),
    )


def _declared(name: str, catalog: Catalog) -> SelfHosted:
    """What the registry declares of a deployment; raises a usage error for one that it doesn't have so."""
    own = [one.id for one in catalog.deployments() if one.prices.self_hosted is not None]
    having = f"this registry has {', '.join(own)}" if own else "this registry has none; give --gpus and so on instead"
    found = catalog.by_id.get(name)
    if found is None:
        near = difflib.get_close_matches(name, catalog.by_id, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise click.UsageError(
            f"--deployment: no {name!r} in the registry; {hint}Of deployments with self_hosted, {having}."
        )
    if found.prices.self_hosted is None:
        raise click.UsageError(f"--deployment: {name} is no engine of your own (no self_hosted); {having}.")
    return found.prices.self_hosted


def _engine(said: Said, declared: SelfHosted | None, catalog: Catalog) -> tuple[Engine, str]:
    """(the engine: what the options say, else what is declared; where its throughput is from)."""
    measured = None if said["measured"] is None else read_measured(said["measured"])
    if declared is None:
        needed = ["gpus", "usd_per_gpu_hour"]
        needed += [] if measured is not None else ["input_tokens_per_s", "output_tokens_per_s"]
        values: dict[str, object] = {**said}
        missing = [f"--{name.replace('_', '-')}" for name in needed if values[name] is None]
        if missing:
            own = [one.id for one in catalog.deployments() if one.prices.self_hosted is not None]
            instead = f"; or --deployment {own[0]}, which the registry declares" if own else ""
            raise click.UsageError(f"missing: {', '.join(missing)}{instead}")
    base = SelfHosted(1, 0, 0, 0) if declared is None else declared
    hour = said["usd_per_gpu_hour"]
    speed = _speed(said, base, measured)
    if not speed.read + speed.written:
        raise click.UsageError("the engine does no tokens; measure --input-tokens-per-s and --output-tokens-per-s")
    engine = Engine(
        int(said["gpus"] or base.gpus),
        base.pusd_per_gpu_hour if hour is None else pusd_from_usd(hour),
        speed.read,
        speed.written,
    )
    return engine, speed.told


class _Speed(NamedTuple):
    """Tokens per second at full load, and where that is from."""

    read: Fraction
    written: Fraction
    told: str


def _speed(said: Said, base: SelfHosted, measured: Throughput | None) -> _Speed:
    if measured is not None:
        told = f"throughput measured over {fixed(measured.seconds, 0, commas=True)} s"
        return _Speed(measured.input_per_s, measured.output_per_s, told)
    read, written = said["input_tokens_per_s"], said["output_tokens_per_s"]
    return _Speed(
        Fraction(base.input_tokens_per_s if read is None else read),
        Fraction(base.output_tokens_per_s if written is None else written),
        "throughput as declared in the registry" if read is None and written is None else "throughput as given",
    )


def _traffic(
    said: Said, engine: Engine, declared: SelfHosted | None, since: datetime | None, now: datetime
) -> tuple[Traffic, str, bool]:
    """(tokens of a day, where that figure is from, whether it is from the ledger)."""
    if since is None:
        share = said["utilization"]
        load = Fraction(declared.utilization_ppm, PPM) if declared is not None else Fraction(1)
        load = load if share is None else Fraction(share)
        traffic, told = engine.traffic_at(load), "the mix of its throughput, at its load"
    else:
        traffic = traffic_of(said["data_dir"], since, now, said["deployment"])
        whose = "all traffic" if said["deployment"] is None else f"traffic of {said['deployment']}"
        told = f"{whose} in the ledger since {since:%Y-%m-%d %H:%M} UTC"
    cached, size = said["cache_share"], said["request_tokens"]
    traffic = Traffic(
        traffic.input,
        traffic.output,
        traffic.cache_share if cached is None else Fraction(cached),
        traffic.request_input_tokens if size is None else Fraction(size),
    )
    return traffic, told, since is not None


def _notes(account: Account, from_ledger: bool, unpriced: int, barred: int) -> list[str]:  # noqa: FBT001 # read from a tuple
    """What a reader should know about the figures."""
    notes = []
    if account.load > 1:
        notes.append("the traffic is more than the engine can do: it needs more GPUs than these.")
    if from_ledger and account.traffic.input * account.engine.output_per_s != (
        account.traffic.output * account.engine.input_per_s
    ):
        notes.append("the engine's load counts all tokens alike, though its throughput was measured on another mix.")
    if barred:
        notes.append(f"{barred} of these APIs can't be called from here as the registry stands (`coe check` says why).")
    if unpriced:
        notes.append(f"{unpriced} deployments have no known price or are retired, and are left out.")
    return notes


def _known(against: tuple[str, ...], report: Report) -> None:
    """Raise a usage error for an API to draw that is not compared with."""
    names = [one.deployment.id for one in report.offers]
    for name in against:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise click.UsageError(f"--against: {name!r} is no API with a known price here{hint}")
