"""What a connection to a vendor trusts, and what it tells nobody.

Where on the path: the transports ask for a context once, at start.

Invariants
1. Certificates are checked, for the name that is called, against the bundled authorities alone: no variable of the
   environment adds one.
2. The secrets of a connection are written nowhere, also where `SSLKEYLOGFILE` asks for them: with these, whoever
   records the network reads keys and prompts.
"""

from __future__ import annotations

import ssl

import httpx


def tls_context(*, verify: bool = True) -> ssl.SSLContext:
    """A context for HTTP/1.1; `verify` is whether certificates are checked."""
    context = httpx.create_ssl_context(verify=verify, trust_env=False)
    # Python has obeyed SSLKEYLOGFILE by now, before any connection: the file has no secret in it, and gets none.
    context.keylog_filename = None  # type: ignore[assignment] # the interpreter takes `None`, its types don't know
    context.set_alpn_protocols(["http/1.1"])
    return context
