"""The state of the vendors: whose turn it is in each script list, and which socket belongs to whom. No I/O.

Where on the path: `server` asks a `Vendor` for the script of each request.

Invariants
1. A script of `queue` is used once, those of `cycle` in turn for ever; nothing in a request but its model matters.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Mapping

from service.simulator.script import Fault, Script, VendorScript

VENDOR_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What may stand in a path without escaping."""

QUEUE_MAX = 100_000
"""Scripts waiting in one vendor's queue."""

VENDORS_MAX = 1_000
"""Vendors of one simulator."""


class Vendor:
    """One vendor: its script and how far it got."""

    def __init__(self, name: str, script: VendorScript) -> None:
        """`name` becomes part of a URL. Raises ValueError when it can't."""
        if not VENDOR_NAME.fullmatch(name):
            raise ValueError(f"a vendor's name is part of a URL: letters, digits, '.', '_' and '-' only, got {name!r}")
        self.name = name
        self.script = script
        self._queue: deque[Script] = deque()
        self._turn = 0
        self.replace(script)

    def replace(self, script: VendorScript) -> None:
        """Start over with another script."""
        self.script = script
        self._queue = deque()
        self._turn = 0
        self.push(script.queue)

    def push(self, scripts: Iterable[Script]) -> None:
        """Queue scripts behind those that wait. Raises ValueError for what a request can't do."""
        for script in scripts:
            if script.fault is Fault.REFUSE:
                raise ValueError("Fault.REFUSE closes a port; call refuse() on the simulator instead of queueing it")
            if len(self._queue) >= QUEUE_MAX:
                raise ValueError(
                    f"the queue of {self.name} holds {QUEUE_MAX} scripts already; use `cycle` for long runs"
                )
            self._queue.append(script)

    def take(self, model: str) -> Script:
        """The script of the next chat request, by the order that `VendorScript` describes."""
        if self._queue:
            return self._queue.popleft()
        if model in self.script.by_model:
            return self.script.by_model[model]
        if self.script.cycle:
            self._turn += 1
            return self.script.cycle[(self._turn - 1) % len(self.script.cycle)]
        return self.script.default

    def resets_now(self) -> bool:
        """Whether the next script resets connections as they open; if so it is taken."""
        if self._queue:
            upcoming = self._queue[0]
        elif self.script.cycle:
            upcoming = self.script.cycle[self._turn % len(self.script.cycle)]
        else:
            upcoming = self.script.default
        if upcoming.fault is not Fault.RESET_ON_ACCEPT:
            return False
        self.take("")
        return True

    def needs_own_port(self) -> bool:
        """Whether a script misbehaves before a request says whom it is for."""
        scripts = (self.script.default, *self._queue, *self.script.cycle, *self.script.by_model.values())
        return any(script.fault in (Fault.REFUSE, Fault.RESET_ON_ACCEPT) for script in scripts)


def vendors_from(scripts: Mapping[str, VendorScript | Script] | Iterable[str]) -> dict[str, Vendor]:
    """Vendors by name: from names alone (all healthy), or names with a script for every request or with several."""
    pairs = scripts.items() if isinstance(scripts, Mapping) else ((name, Script()) for name in scripts)
    vendors = {name: Vendor(name, as_vendor_script(script)) for name, script in pairs}
    if not 0 < len(vendors) <= VENDORS_MAX:
        raise ValueError(f"a simulator hosts between 1 and {VENDORS_MAX} vendors, got {len(vendors)}")
    return vendors


def as_vendor_script(script: VendorScript | Script) -> VendorScript:
    """A single script means: answer every request so."""
    return VendorScript(default=script) if isinstance(script, Script) else script
