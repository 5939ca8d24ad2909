"""Starts the HTTP gateway that TensorZero's Python package carries, and prints its address.

Runs on the interpreter of the environment that the package is installed in, not on this project's. The package offers
the start to no one but its own client of the `openai` library, so it is called by its private name; what listens
then is the Rust gateway itself, in this process, and Python does nothing more.
"""

import signal
import sys

from tensorzero.tensorzero import _start_http_gateway

gateway = _start_http_gateway(
    config_file=sys.argv[1], clickhouse_url=None, postgres_url=None, valkey_url=None, async_setup=False
)
print(f"listening {gateway.base_url}", flush=True)
signal.signal(signal.SIGTERM, signal.SIG_DFL)
signal.pause()
