"""Calling vendors.

transports.py        the seam to the network (one method): `TRANSPORTS` lists who can stand behind it
transport_native.py  on asyncio and httptools: the default; native_connection.py is one of its connections
transport_httpx.py   on httpx: for forward proxies
client.py            one attempt: send, watch deadlines, read the answer up to its first content or its end
stream.py            a stream from its first content to its end, and what is known of it so far
sse.py               the tap: splits a byte stream into server-sent events without changing a byte
frames.py            tells events that differ from the one before them in their text alone, without parsing
body.py              how a body is read: as it comes, or whole up to a limit
patience.py          waits with deadlines on one timer
tally.py             what is known of an attempt, and what is booked for it
quirks.py            what is odd about vendors, as a table of names
usage.py             the vendor's usage object -> disjoint buckets
protocols/           one file per wire protocol; `PROTOCOLS` lists them
local_engines.py     finds model servers on loopback
"""
