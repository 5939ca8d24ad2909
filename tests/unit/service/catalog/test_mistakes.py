"""Every mistake that one can make in a good file: one edit, one problem, at its line and column, with what to do."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Wrong = Callable[..., list[str]]

WRONG_EDITS = [
    # what the file says, what it says instead, the one problem
    ("version: 1", "version: 2", "1:10: must be 1, got 2"),
    ("version: 1\n", "", "1:1: the field 'version' is missing; add it: shape of this file; 1"),
    ("base: USD", "base: EUR", "2:18: unknown base currency 'EUR'; use one of: USD"),
    (", as_of: 2026-11-20", "", "2:1: exchange rates without a day; add as_of: YYYY-MM-DD"),
    ("{CNY: 0.1406}", "{CNY: 0.1406, USD: 1}", "2:49: USD is the base; remove its rate"),
    (
        "baseline: deepseek-flash",
        "baseline: deepseek-flush",
        "3:11: unknown model 'deepseek-flush'; did you mean 'deepseek-flash'?",
    ),
    (
        "default_policy: balanced",
        "default_policy: balance",
        "4:17: unknown policy 'balance'; did you mean 'balanced'?",
    ),
    ("    protocol: openai_chat", "    protocl: openai_chat", "8:5: unknown field 'protocl'; did you mean 'protocol'?"),
    (
        "    protocol: openai_chat",
        "    fallbacks: [local]",
        (
            "8:5: unknown field 'fallbacks': there are no fallback chains: the policy's ranking is the fallback order, "
            "so no cycle can be written"
        ),
    ),
    (
        "protocol: openai_chat",
        "protocol: openai",
        "8:15: unknown protocol 'openai'; did you mean 'openai_chat'?",
    ),
    (
        "https://api.deepseek.com/v1",
        "http://169.254.169.254/v1",
        "7:15: base_url points at a link-local or metadata address (169.254.169.254); use the API's own host",
    ),
    (
        "    base_url: http://127.0.0.1:11434/v1\n",
        "",
        "20:3: the field 'base_url' is missing; add it: where the API begins, such as https://api.example.com/v1",
    ),
    ("total_s: 500", "totals: 500", "12:61: unknown field 'totals'; did you mean 'total_s'?"),
    (
        "total_s: 500",
        "total_s: 10",
        (
            "12:45: first_token_s (20) is longer than total_s (10); make total_s the longest|"
            "12:57: idle_s (25) is longer than total_s (10); make total_s the longest"
        ),
    ),
    ("concurrency: 200", "concurrency: 0", "13:27: must be between 1 and 1000000000, got 0"),
    ("max_tokens]", "max_tokens, max_tokens]", "14:65: the quirk 'max_tokens' twice; keep one"),
    (
        "max_tokens]",
        "Max Tokens]",
        "14:53: not a quirk: write name or name:value, in small letters; got the text 'Max Tokens'",
    ),
    (
        "{x-team: router}",
        "{x-api-key: router}",
        "15:26: the header 'x-api-key' holds a secret; write ${env:NAME} and set NAME",
    ),
    ("{x-team: router}", "{Host: router}", "15:15: the header 'Host' belongs to the transport; remove it"),
    ("coding: 0.80", "codin: 0.80", "31:30: unknown intent 'codin'; did you mean 'coding'?"),
    ("coding: 0.80", "coding: 1.80", "31:38: must be at most 1, got 1.80; check the unit"),
    ("math: 3000", "math: -1", "33:44: must be between 0 and 100000000, got -1"),
    ("retires: 2027-03-01", "retires: 2027-13-01", "34:14: no such day: 2027-13-01"),
    (
        "      - provider: deepseek\n",
        "      - provider: deepsek\n",
        "36:19: unknown provider 'deepsek'; did you mean 'deepseek'?",
    ),
    (
        "provider: bailian\n",
        "provider: deepseek\n",
        "49:19: a second deployment at 'deepseek', first on line 36; keep one",
    ),
    (
        "from: 2026-07-24",
        "until: 2026-07-24",
        (
            "39:13: the field 'from' is missing; add it: first day (UTC) on which this price applies. "
            "The newest such entry wins"
        ),
    ),
    (
        "input: 0.15\n",
        'input: "1e-6"\n',
        "41:20: expected a number: write a plain decimal such as 0.15, without quotes or exponent; got the text '1e-6'",
    ),
    (
        "input: 0.15\n",
        "input: 1e-6\n",
        "41:20: expected a number: write a plain decimal such as 0.15, without quotes or exponent; got the text '1e-6'",
    ),
    ("input: 0.15\n", "input: -0.15\n", "41:20: must be at least 0, got -0.15"),
    ("input: 0.15\n", "input: .nan\n", "41:20: expected a finite number, got NaN"),
    ("input: 0.15\n", "input: .inf\n", "41:20: expected a finite number, got Infinity"),
    ("input: 0.15\n", "input: 1000.01\n", "41:20: 1000.01 USD is above 1000 USD per 1M tokens; check the unit"),
    ("input: 0.15\n", "input: 0.0000001\n", "41:20: has more than 6 decimals (0.0000001); check the unit"),
    ("input: 1.2,", "input: 7113,", "53:54: 7113 CNY is above 1000 USD per 1M tokens; check the unit"),
    ("request: 0.001", "request: 800", "53:81: 800 CNY is above 100 USD for one request"),
    (
        "            output: 0.60\n",
        "",
        "39:13: output is missing; write both prices, or leave both out while they are unknown (0 is free)",
    ),
    (
        "currency: CNY, input: 1.2",
        "currency: JPY, input: 1.2",
        "53:42: no exchange rate for JPY; add it to currency.rates, in USD per JPY",
    ),
    (
        "from: 2026-09-01,",
        "from: 2026-01-01,",
        "54:20: overlapping dates: another price begins on 2026-01-01, on line 53",
    ),
    (
        "until: 2026-09-01",
        "until: 2026-09-02",
        "54:39: overlapping dates: the next price begins on 2026-09-01; end this one by then",
    ),
    ("until: 2026-09-01", "until: 2026-01-01", "54:39: until must be after from (2026-01-01)"),
    (
        'utc: ["01:00-04:00", "06:00-10:00"]',
        'hours: ["01:00-04:00"]',
        "44:23: a window without a zone; add zone: Area/City, or write the hours as utc: [...]",
    ),
    (
        'utc: ["01:00-04:00", "06:00-10:00"]',
        'hours: ["01:00-04:00"], zone: Asia/Shangai',
        "44:54: unknown time zone 'Asia/Shangai'; did you mean 'Asia/Shanghai'?",
    ),
    (
        'utc: ["01:00-04:00", "06:00-10:00"]',
        'utc: ["01:00-04:00"], zone: Asia/Shanghai',
        "44:52: utc already says the zone; write hours: [...] to use another one",
    ),
    (
        'utc: ["01:00-04:00", "06:00-10:00"], ',
        "",
        "44:23: a window without hours; write utc: [...], or hours: [...] with zone: Area/City",
    ),
    ('"06:00-10:00"', '"6-10"', "44:45: not a span of hours: write HH:MM-HH:MM, such as 01:00-04:00; "),
    ('"06:00-10:00"', '"06:00-06:00"', "44:45: the span 06:00-06:00 is empty; a whole day is 00:00-24:00"),
    (
        '"06:00-10:00"',
        '"03:00-10:00"',
        "44:23: overlapping windows (spans of one window): both hold at ",
    ),
    ("days: mon-fri", "days: monday", "44:67: not days of the week: write mon, tue, … or a range such as mon-fri"),
    ("except: cn-holidays", "except: cn-holiday", "44:84: unknown calendar 'cn-holiday'; did you mean 'cn-holidays'?"),
    ("multiply: 2}", "multiply: 0}", "44:107: must be above 0, got 0"),
    (
        "output: 1.20}]",
        "output: 1.20}, {above_input_tokens: 128000, input: 1, output: 2}]",
        "45:99: tiers must ascend, and 128000 came before",
    ),
    (
        "name: qwen3:32b\n",
        "name: qwen3:32b\n        prices: []\n",
        "62:9: both prices and self_hosted; an engine of one's own has no list price",
    ),
    (
        "input_tokens_per_s: 3000, output_tokens_per_s: 300",
        "input_tokens_per_s: 0, output_tokens_per_s: 0",
        "61:9: the engine has no throughput; measure input_tokens_per_s and output_tokens_per_s",
    ),
    ("utilization: 0.6", "utilization: 0", "62:110: must be above 0, got 0"),
    (
        "    disabled_reason: no public API\n",
        "",
        "64:14: disabled without a reason; add disabled_reason: why, how to enable it",
    ),
    ("    enabled: false\n", "", "64:22: a reason, but enabled; add enabled: false, or remove it"),
    (
        "api_key: ${env:DEEPSEEK_API_KEY}",
        "api_key: []",
        "9:14: an empty list of keys; write ${env:NAME}, or remove the field",
    ),
    (
        'utc: ["01:00-04:00", "06:00-10:00"]',
        "utc: []",
        "44:29: no spans of hours; write at least one, such as 01:00-04:00",
    ),
    (
        "            input: 0.15\n            cache_read: 0.015\n            output: 0.60\n",
        "",
        "39:13: tiers or windows on an unknown price; write input and output",
    ),
    (
        "above_input_tokens: 128000",
        "above_input_token: 128000",
        (
            "45:21: the field 'above_input_tokens' is missing; add it: the tier applies when the request has more input|"
            "45:22: unknown field 'above_input_token'; did you mean 'above_input_tokens'?"
        ),
    ),
    ("enabled: false", "enabled: no", "64:14: expected true or false, got the text 'no'"),
    ("min_quality: 0.70", "min_quality: 70", "69:48: must be at most 1, got 70; check the unit"),
    (
        "objective: min_cost, min_quality: 0.70",
        "objective: utility, min_quality: 0.70",
        "69:25: the objective utility needs usd_per_quality: what one whole point of quality is worth",
    ),
    (
        "objective: min_cost, min_quality: 0.70",
        "objective: utility, usd_per_quality: -0.1",
        "69:51: must be above 0, got -0.1",
    ),
    (
        "objective: min_cost, min_quality: 0.70",
        "objective: utility, usd_per_quality: 0",
        "69:51: must be above 0, got 0",
    ),
    (
        "min_quality: 0.70",
        "usd_per_quality: 0.1",
        "69:35: min_cost does not use it; remove it, or write objective: utility",
    ),
    (
        "objective: min_cost, min_quality: 0.70",
        "objective: utilty, min_quality: 0.70",
        "69:25: unknown objective 'utilty'; did you mean 'utility'?",
    ),
    (
        "min_quality: 0.70",
        "min_quality_for: {codeing: 0.7}",
        "69:53: unknown intent 'codeing'; did you mean 'coding'?",
    ),
    ("min_quality: 0.70", "min_quality_for: {coding: 7}", "69:61: must be at most 1, got 7; check the unit"),
    (
        "allow: {tags: [private]}",
        "allow: {}",
        "70:41: names nothing; add models, providers, regions or tags, or remove it",
    ),
    (
        "allow: {tags: [private]}",
        "allow: {tags: [privat]}",
        "70:49: no provider or model carries the tag 'privat'; did you mean 'private'?",
    ),
    (
        "deny: {regions: [cn]}",
        "deny: {providers: [deepsek]}",
        "71:97: unknown provider 'deepsek'; did you mean 'deepseek'?",
    ),
    (
        "deny: {regions: [cn]}",
        "deny: {models: [deepsek-flash]}",
        "71:94: unknown model 'deepsek-flash'; did you mean 'deepseek-flash'?",
    ),
    ("policy: private}", "policy: privat}", "73:45: unknown policy 'privat'; did you mean 'private'?"),
    (", policy: private}", "}", "73:5: route 'hr' names nothing to do; write exactly one of policy, plan and model"),
    (
        "plan: draft_polish",
        "plan: draft_polish, policy: private",
        "74:5: route 'contracts' names policy and plan; write exactly one of policy, plan and model",
    ),
    ("plan: draft_polish", "plan: draft-polish", "74:79: unknown plan 'draft-polish'; did you mean 'draft_polish'?"),
    ("intent: translation", "intent: translate", "74:38: unknown intent 'translate'; did you mean 'translation'?"),
    ("key_tag: hr", "key_tag: []", "73:32: an empty list never holds; name something, or remove it"),
    ("name: pinned", "name: hr", "75:12: a second route 'hr', first on line 73; give each its own name"),
    ("auto:private", "auto:privat", "75:34: unknown model 'auto:privat'; did you mean 'auto:private'?"),
    (
        "model: local/qwen-onprem",
        "model: lokal/qwen-onprem",
        "75:58: unknown model 'lokal/qwen-onprem'; did you mean 'local/qwen-onprem'?",
    ),
    (
        ", usd_per_month: 5000",
        "",
        (
            "77:5: budget 'whole-router' limits nothing; add one of usd_per_day, usd_per_month, requests_per_minute, "
            "tokens_per_minute, concurrency"
        ),
    ),
    (
        "usd_per_month: 5000",
        "soft: true, usd_per_month: null",
        "77:5: budget 'whole-router' limits nothing; add one of",
    ),
    (
        "name: interns",
        "name: whole-router",
        "78:11: a second budget 'whole-router', first on line 77; give each its own name",
    ),
    ("  - name: interns\n    tag", "  - tag", "78:5: the field 'name' is missing; add it: its name in refusals"),
    ("name: interns", "name: the interns", "78:11: not a name: letters, digits, '.', '_' and '-', "),
    ("tag: interns", "tag: the interns", "79:10: not a label: a word of at most 100 characters without spaces"),
    ("tag: interns", "tag: [interns]", "79:5: expected a label, got a list"),
    ("tag: interns", "tags: interns", "79:5: unknown field 'tags'; did you mean 'tag'?"),
    ("usd_per_day: 20.50", "usd_per_days: 20.50", "80:5: unknown field 'usd_per_days'; did you mean 'usd_per_day'?"),
    ("usd_per_day: 20.50", "max_budget: 20.50", "80:5: unknown field 'max_budget': write usd_per_day or usd_per_month"),
    ("usd_per_day: 20.50", "usd_per_day: -1", "80:18: must be at least 0, got -1"),
    ("usd_per_day: 20.50", 'usd_per_day: "20.50"', "80:18: expected a number: write a plain decimal such as 0.15"),
    ("usd_per_day: 20.50", "usd_per_day: 2e1", "80:18: expected a number: write a plain decimal such as 0.15"),
    ("usd_per_day: 20.50", "usd_per_day: 4000000.01", "80:18: must be at most 4000000, got 4000000.01; check the unit"),
    ("usd_per_day: 20.50", "usd_per_day: 0.0000000000001", "80:18: has more than 12 decimals (0.0000000000001)"),
    ("per_minute: 60\n", "per_minute: 1.5\n", "81:26: expected a whole number: write digits only, without quotes"),
    ("per_minute: 60\n", "per_minute: 1000000001\n", "81:26: must be between 0 and 1000000000, got 1000000001"),
    ("per_minute: 200000\n", "per_minute: -1\n", "82:24: must be between 0 and 1000000000, got -1"),
    ("concurrency: 8\n", "concurrency: 100001\n", "83:18: must be between 0 and 100000, got 100001"),
    ("soft: true", "soft: yes please", "84:11: expected true or false, got the text 'yes please'"),
    ("soft: true", "rpm: 5", "84:5: unknown field 'rpm': write requests_per_minute"),
]


def edited(text: str, old: str, new: str) -> str:
    """The text with one exact passage replaced."""
    assert text.count(old) == 1, f"{old!r} must stand in the example exactly once"
    return text.replace(old, new)


@pytest.mark.parametrize(("old", "new", "problem"), WRONG_EDITS)
def test_each_mistake_is_one_problem_at_its_place(wrong: Wrong, example: str, old: str, new: str, problem: str) -> None:
    """One edit of a good file gives exactly its own problem (two where `|` says so), at its line and column."""
    found = wrong(edited(example, old, new))
    expected = [f"providers.yaml:{part}" for part in problem.split("|")]
    assert len(found) == len(expected), found
    for line, beginning in zip(found, expected, strict=True):
        assert line.startswith(beginning), line
