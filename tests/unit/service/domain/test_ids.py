"""Ids: never twice, in threads and in forked processes."""

from __future__ import annotations

import os
import re
import time
from concurrent.futures import ThreadPoolExecutor

from service.domain import ids
from service.domain.ids import AT_ONCE, new_draw, new_id


def test_an_id_is_a_prefix_a_second_and_64_bits():
    """Later ones sort behind earlier ones, to the second."""
    before = int(time.time())
    found = re.fullmatch(r"dec_([0-9a-f]{8})[0-9a-f]{16}", new_id("dec_"))
    assert found
    assert before <= int(found[1], 16) <= time.time()


def test_no_id_comes_twice():
    """Over several looks at the generator, from several threads at once."""
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: new_id(""), range(20 * AT_ONCE)))
    assert len(set(found)) == len(found)
    assert len(ids._waiting) <= 8 * AT_ONCE


def test_a_draw_is_any_of_two_to_the_53():
    """Never outside, and both halves as often."""
    found = [new_draw() for _ in range(4_000)]
    assert 0 <= min(found) < 2**46
    assert 2**53 - 2**46 < max(found) < 2**53
    assert 1_800 < sum(1 for one in found if one < 2**52) < 2_200


def test_a_forked_process_does_not_repeat_its_parent():
    """What waits is not inherited: a worker would give the ids that the others give."""
    new_id("")
    assert ids._waiting
    read, write = os.pipe()
    child = os.fork()
    if child == 0:  # what the child does is told by the parent's assertions
        os.write(write, " ".join(new_id("") for _ in range(8)).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as source:
        theirs = {one[8:] for one in source.read().split()}
    os.waitpid(child, 0)
    mine = {new_id("")[8:] for _ in range(AT_ONCE)}
    assert len(theirs) == 8
    assert not mine & theirs
