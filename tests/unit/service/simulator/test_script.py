"""Scripts are data, and wrong data fails where it is written."""

import pytest

from service.simulator.script import Fault, Script, VendorScript, http_error


def test_default_is_a_healthy_vendor():
    """Nobody gets a fault or a delay without asking."""
    script = Script()
    assert script.fault is None
    assert script.header_delay_s == script.first_content_delay_s == script.chunk_delay_s == 0
    assert VendorScript().default == script


@pytest.mark.parametrize(
    "fields",
    [
        {"header_delay_s": -1},
        {"chunk_delay_s": 1e9},
        {"fault_after": -1},
        {"chunks": 0},
        {"write_bytes": 0},
        {"giant_bytes": 10**12},
        {"tool_calls": 1000},
        {"cached_tokens": -1},
        {"status": 99},
        {"vendor_cost_usd": "a lot"},
    ],
)
def test_values_out_of_range_are_refused(fields):
    """Each limit of a script, once."""
    with pytest.raises(ValueError, match=next(iter(fields)) if "vendor_cost_usd" not in fields else "a lot"):
        Script(**fields)


def test_refusing_is_a_vendors_state():
    """A queued refusal could never happen: there is no request without a connection."""
    with pytest.raises(ValueError, match="refuse"):
        VendorScript(queue=(Script(fault=Fault.REFUSE),))
    assert VendorScript(default=Script(fault=Fault.REFUSE)).default.fault is Fault.REFUSE


def test_http_error_is_a_short_spelling():
    """It must not drop an argument on the way."""
    script = http_error(429, error_type="t", error_code="c", error_message="m", retry_after="7")
    assert (script.fault, script.status, script.retry_after) == (Fault.HTTP_ERROR, 429, "7")
    assert (script.error_type, script.error_code, script.error_message) == ("t", "c", "m")


def test_keys_stay_out_of_repr():
    """A vendor's keys may be real when somebody scripts with them."""
    assert "sk-secret" not in repr(VendorScript(api_keys=("sk-secret",)))
