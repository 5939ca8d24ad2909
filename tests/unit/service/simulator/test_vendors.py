"""The order in which scripts are used."""

import pytest

from service.simulator.script import Fault, Script, VendorScript
from service.simulator.vendors import Vendor, vendors_from

A, B, C, D, E = (Script(answer=letter) for letter in "ABCDE")


def test_queue_then_model_then_cycle_then_default():
    """The order the docstring of VendorScript promises."""
    vendor = Vendor("v", VendorScript(default=A, queue=(B,), cycle=(C, D), by_model={"m": E}))
    taken = [vendor.take(model) for model in ("m", "m", "x", "x", "m", "x")]
    assert taken == [B, E, C, D, E, C]
    assert Vendor("v", VendorScript(default=A)).take("x") == A


def test_push_goes_behind_and_replace_starts_over():
    """What tests do in the middle of a run."""
    vendor = Vendor("v", VendorScript(queue=(A,)))
    vendor.push([B])
    assert [vendor.take("m"), vendor.take("m"), vendor.take("m")] == [A, B, Script()]
    vendor.push([C])
    vendor.replace(VendorScript(default=D))
    assert vendor.take("m") == D


def test_reset_on_accept_is_taken_by_the_connection():
    """The connection uses it up, so that the next one is served."""
    vendor = Vendor("v", VendorScript(queue=(Script(fault=Fault.RESET_ON_ACCEPT), A)))
    assert vendor.needs_own_port()
    assert vendor.resets_now()
    assert not vendor.resets_now()
    assert vendor.take("m") == A
    assert not vendor.needs_own_port()


@pytest.mark.parametrize("name", ["", "a/b", "a b", "ü", "-a", "x" * 65])
def test_names_must_fit_a_url(name):
    """The name is a path segment on a shared port."""
    with pytest.raises(ValueError, match="URL"):
        Vendor(name, VendorScript())


def test_vendors_from_names_and_scripts():
    """All accepted spellings."""
    assert vendors_from(["a", "b"])["b"].take("m") == Script()
    assert vendors_from({"a": B})["a"].take("m") == B
    with pytest.raises(ValueError, match="between 1"):
        vendors_from([])
    with pytest.raises(ValueError, match="closes a port"):
        vendors_from(["a"])["a"].push([Script(fault=Fault.REFUSE)])
