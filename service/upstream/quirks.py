"""What is odd about vendors, as data: the names that providers.yaml may put in `quirks`, and what each one does.

Where on the path: `catalog.load` refuses names that are not in `QUIRKS`; `protocols` and `usage` act on them.
A quirk is `name` or `name:value`; `Provider.quirks` maps name to value (empty string when there is none).
"""

from __future__ import annotations

from collections.abc import Mapping

QUIRKS: Mapping[str, str] = {
    "max_tokens": "knows only `max_tokens`: `max_completion_tokens` is renamed",
    "max_completion_tokens": "knows only `max_completion_tokens`: `max_tokens` is renamed",
    "no_developer_role": "has no `developer` role: it becomes `system`",
    "no_stream_options": "refuses `stream_options`: it is removed, and usage comes unasked or is estimated",
    "no_store": "refuses `store`: it is removed",
    "no_sampling": "refuses `temperature`, `top_p`, `top_k`: they are removed",
    "temperature_positive": "wants 0 < temperature <= 1: values outside are moved to the nearest allowed one",
    "cached_tokens": "value: the usage field that holds cache hits, inside the input count",
    "reasoning_beside": "reasoning tokens are counted beside `completion_tokens`, not inside",
    "citation_tokens": "`citation_tokens` are billed as output, beside `completion_tokens`",
    "usage_cost": "`usage.cost` is the USD figure on the invoice and is booked as it stands",
    "error_in_200": "a 200 body may hold an error: `error`, or a `code` that is not 0 and a message",
    "no_api_key_ok": "works without a key",
    "no_forced_tool_choice": "refuses a `tool_choice` that names a tool: not chosen for such requests",
    "thinking_field": "value: how thinking is switched on and off; informative",
}
