"""The ports: who implements them really does, and a request to a vendor keeps its secret out of sight."""

import inspect

import pytest

from service.app import SystemClock
from service.domain import ports
from service.domain.ports import UpstreamRequest
from service.ledger.journal import Journal
from service.upstream.protocols import PROTOCOLS
from service.upstream.transport_httpx import HttpxTransport, _HttpxResponse

IMPLEMENTED = [
    (ports.Clock, SystemClock),
    (ports.LedgerWriter, Journal),
    (ports.Transport, HttpxTransport),
    (ports.UpstreamResponse, _HttpxResponse),
    *((ports.WireProtocol, type(one)) for one in PROTOCOLS.values()),
]


@pytest.mark.parametrize(("port", "implementation"), IMPLEMENTED, ids=lambda one: one.__name__)
def test_implementations_fit_their_port(port, implementation):
    """Every member is there, with the same parameters, and is awaited where the port says so."""
    for name, wanted in vars(port).items():
        if name.startswith("_") or not (inspect.isfunction(wanted) or isinstance(wanted, property)):
            continue
        found = inspect.getattr_static(implementation, name)
        if isinstance(wanted, property):
            assert isinstance(found, property), name
            continue
        assert inspect.iscoroutinefunction(found) == inspect.iscoroutinefunction(wanted), name
        assert list(inspect.signature(found).parameters) == list(inspect.signature(wanted).parameters), name


def test_every_port_says_who_implements_it():
    """The table in the docstring names the Protocols of the module and nothing else."""
    listed = {line.split("`")[1] for line in ports.__doc__.splitlines() if line.startswith("| `")}
    parts = {"IntentReading", "PartReading", "UpstreamResponse"}  # what other ports hand out
    protocols = {
        name for name, one in vars(ports).items() if getattr(one, "_is_protocol", False) and name != "Protocol"
    }
    assert listed == protocols - parts


def test_a_request_hides_its_secret():
    """Neither key nor prompt is in `repr`, which is what ends up in logs; and it can't be changed on its way."""
    request = UpstreamRequest("POST", "https://e.org/", (("authorization", "Bearer sk-secret"),), b"a prompt")
    assert "sk-secret" not in repr(request)
    assert "prompt" not in repr(request)
    assert "https://e.org/" in repr(request)
    with pytest.raises(AttributeError):
        request.url = "https://elsewhere.org/"


def test_a_signal_says_nothing_unless_told():
    """An event of which we think nothing is passed on."""
    silent = ports.StreamSignal()
    assert not any((silent.content, silent.hide, silent.done, silent.error, silent.usage))
    assert (silent.seen_choices, silent.finished_choices, silent.output_characters) == ((), (), 0)
