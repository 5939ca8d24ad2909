"""The exact cache: the answer to a request that its tenant has asked before, byte for byte. Off unless configured.

Where on the path: one visit before the attempts and one after them, both from `pipeline`. Asks no vendor, writes no
money.

| file | is about |
|---|---|
| `naming` | the name of a request: an HMAC over its tenant and everything that changes the answer |
| `sealing` | an answer as bytes that only we can have written, and only under this name |
| `finished` | which answers are whole; pure |
| `memory`, `redis_store` | where they lie; `stores` says what both promise |
| `answer_cache` | the two visits, and what is counted of them |

Why it is as it is: docs/adr/0015-exact-cache.md.
"""
