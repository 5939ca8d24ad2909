"""The practice range: scriptable vendors on loopback sockets that speak, and break, the real chat wire.

The map, from what a user writes to what goes onto the wire:

    script          what a vendor does: data
    vendors         whose script is next
    server, thread  sockets, in the caller's event loop or in a thread of their own
    connection      one socket: bounded reading, flow control, FIN or RST
    http1           requests in, heads and chunks out
    replies         routes, keys, models: which answer a request gets
    composing       what the model "says": words, JSON, tool calls
    answers         plausible words and the token rule
    schema_values   a small valid value for a JSON schema
    completion      OpenAI's objects and chunks
    usage           the bill, and how each vendor spells it
    play            the screenplay: bytes, pauses, faults
    performing      the screenplay on a connection
    request_log     the truth: what was asked, how it ended, what it cost in tokens
    registry        a catalogue whose providers are simulated
    script_file     scripts from JSON, for the command line
"""

from service.simulator.answers import cut_to_tokens, prompt_tokens, text_tokens
from service.simulator.registry import scripts_for, simulated
from service.simulator.request_log import Outcome, SeenRequest
from service.simulator.script import (
    AfterAnswer,
    ErrorShape,
    Fault,
    LineEnding,
    Script,
    UsagePlace,
    UsageShape,
    VendorScript,
    http_error,
)
from service.simulator.server import SimulatedVendors
from service.simulator.thread import SimulatorThread

__all__ = [
    "AfterAnswer",
    "ErrorShape",
    "Fault",
    "LineEnding",
    "Outcome",
    "Script",
    "SeenRequest",
    "SimulatedVendors",
    "SimulatorThread",
    "UsagePlace",
    "UsageShape",
    "VendorScript",
    "cut_to_tokens",
    "http_error",
    "prompt_tokens",
    "scripts_for",
    "simulated",
    "text_tokens",
]
