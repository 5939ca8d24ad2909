"""A chat request and a deployment to send it to, made as the router makes them."""

import json

import pytest

from service.api.chat_body import read_chat
from service.domain.catalog import Deployment, Provider, Timeouts
from service.domain.decision import Candidate
from service.domain.prices import PriceBook

KEY = "sk-vendor-secret-0123456789"


@pytest.fixture
def chat():
    """A `ChatRequest` from body members (or from bytes)."""

    def make(raw=None, **members):
        body = {"model": "auto", "messages": [{"role": "user", "content": "What is the capital of France?"}], **members}
        return read_chat(raw if raw is not None else json.dumps(body).encode(), {})

    return make


@pytest.fixture
def deployment():
    """A deployment of provider `acme`; quirks as in providers.yaml."""

    def make(
        *quirks, base_url="https://acme.example/v1/", wire_name="wire-1", timeouts=None, headers=None, keys=(KEY,)
    ):
        provider = Provider(
            "acme",
            base_url,
            api_keys=keys,
            timeouts=timeouts or Timeouts(),
            headers=headers or {},
            quirks={name: value for name, _, value in (quirk.partition(":") for quirk in quirks)},
        )
        return Deployment(provider, "model-1", wire_name, PriceBook("acme/model-1"))

    return make


@pytest.fixture
def candidate(deployment):
    """A candidate for `deployment`; `cap` is the router's own output bound, 0 for none."""

    def make(*quirks, cap=0, **changes):
        return Candidate(deployment(*quirks, **changes), 0.9, None, None, 12, 100, 0, None, output_tokens_cap=cap)

    return make
