"""Calling vendors.

transport_httpx.py   the seam to the network (one method), today on httpx
client.py            one attempt: send, watch deadlines, read the answer or the stream
sse.py               the tap: splits a byte stream into server-sent events without changing a byte
quirks.py            what is odd about vendors, as a table of names
usage.py             the vendor's usage object -> disjoint buckets
protocols/           one file per wire protocol; `PROTOCOLS` lists them
local_engines.py     finds model servers on loopback
"""
