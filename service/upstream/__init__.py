"""Calling vendors.

transports.py        the seam to the network (one method): `TRANSPORTS` lists who can stand behind it
transport_native.py  on asyncio and httptools: the default; native_connection.py is one of its connections
transport_httpx.py   on httpx: for forward proxies
client.py            one attempt: send, watch deadlines, read the answer or the stream
sse.py               the tap: splits a byte stream into server-sent events without changing a byte
quirks.py            what is odd about vendors, as a table of names
usage.py             the vendor's usage object -> disjoint buckets
protocols/           one file per wire protocol; `PROTOCOLS` lists them
local_engines.py     finds model servers on loopback
"""
