"""Which URLs of a Redis can be meant. What comes of a client that is made is in guard/test_redis_link.py."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from service.errors import ConfigurationError
from service.guard.redis_link import RedisLink
from service.redis_client import Unreachable, _sentinels, check_url, connected, told

SECRET = "s3cret/canary@%"


@pytest.mark.parametrize(
    "url",
    [
        "redis://h",
        "redis://:pw@h:6379/3?socket_timeout=2",
        "rediss://user:pw@h",
        "unix:///tmp/redis.sock?db=2",
        "valkey://h:1",
        "valkeys://h",
        "redis+sentinel://h/mymaster",
        "redis+sentinel://u:p@h:26379,h2,[::1]:5,[::2]/mymaster/2",
        "redis+cluster://h:7000",
    ],
)
def test_urls_that_can_be_meant(url):
    """Nothing is connected for it."""
    check_url(url, "COE_ANY_URL")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:6379",
        "http://h",
        "redis:/h",
        "redis://h:port",
        "redis://h:99999",
        "redis+cluster://h:port",
        "redis://h?socket_timeout=soon",
        "redis://h?no_such_option=1",
        "redis+sentinel://h:26379",
        "redis+sentinel://h:26379/",
        "redis+sentinel:///mymaster",
        "redis+sentinel://h,,h2/mymaster",
        "redis+sentinel://h:port/mymaster",
        "redis+sentinel://h/mymaster/first",
    ],
)
def test_urls_that_can_not_be_meant_are_refused_at_the_start(url):
    """In words that name the setting, and neither the URL nor what is in it."""
    url = url.replace("://h", "://user:canary@h")
    with pytest.raises(ConfigurationError, match="COE_ANY_URL") as caught:
        check_url(url, "COE_ANY_URL")
    assert "canary" not in str(caught.value)
    with pytest.raises(ConfigurationError, match="COE_REDIS_URL"):
        RedisLink(url, "test")


def test_what_a_url_of_sentinels_says():
    """Several hosts, ports left out, addresses in brackets, names and secrets percent-encoded."""
    found = _sentinels(f"redis+sentinel://us%40er:{quote(SECRET, safe='')}@a:1,b,[::1]:5,[::2]/my%20master/2")
    assert found.hosts == [("a", 1), ("b", 26379), ("::1", 5), ("::2", 26379)]
    assert (found.master, found.database) == ("my master", 2)
    assert found.secrets == {"username": "us@er", "password": SECRET}
    assert _sentinels("redis+sentinel://:pw@h/m").secrets == {"password": "pw"}
    assert _sentinels("redis+sentinel://h/m").secrets == {}


async def test_a_client_that_can_not_be_made_is_unreachable_and_named_by_its_setting():
    """Nobody listens for a cluster there; and a wrong password is told by the setting that has it."""
    with pytest.raises(Unreachable) as caught:
        await connected("redis+cluster://:canary@127.0.0.1:9", "COE_ANY_URL")
    assert "canary" not in str(caught.value)
    problem = type("AuthenticationError", (Exception,), {})("canary")
    assert told(problem, "COE_ANY_URL") == "user or password of COE_ANY_URL are wrong or missing (AuthenticationError)"
    assert told(ValueError("canary"), "COE_ANY_URL") == "ValueError"
