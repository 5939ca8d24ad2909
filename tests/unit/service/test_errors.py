"""The error tree: what the docstring draws is what the classes are, and each says what billing and callers must know."""

import inspect
import re

import pytest

from service import errors
from service.errors import Billed, CoeError, ConfigurationError, Replied, UpstreamError

CLASSES = {
    name: one
    for name, one in inspect.getmembers(errors, inspect.isclass)
    if one.__module__ == errors.__name__ and issubclass(one, Exception)
}


def drawn():
    """(name, parent, status) of every line of the drawing; the parent by indentation."""
    above, found = [], {}
    for line in errors.__doc__.splitlines():
        match = re.match(r"( {4,}[| ]*)(?:[|`]- )?([A-Z]\w+)(?: +(\d{3}|\.\.\.)\b)?(?:  |$)", line)
        if match is None:
            continue
        depth = line.index(match[2])
        while above and above[-1][0] >= depth:
            above.pop()
        found[match[2]] = (above[-1][1] if above else None, match[3])
        above.append((depth, match[2]))
    return found


def test_the_drawing_is_the_tree():
    """Every class is drawn under its parent, nothing else is drawn, and the statuses are right."""
    picture = drawn()
    assert picture.keys() == CLASSES.keys()
    for name, (parent, status) in picture.items():
        base = CLASSES[name].__base__
        assert parent == (None if base is Exception else base.__name__), name
        if status is not None and status != "...":
            assert CLASSES[name].status == int(status), name


UPSTREAM = {name: one for name, one in CLASSES.items() if issubclass(one, UpstreamError)}


@pytest.mark.parametrize(
    ("name", "billed"), [("NotSent", "no"), ("NoReply", "maybe"), ("Replied", "no"), ("Broken", "maybe")]
)
def test_what_may_have_been_billed(name, billed):
    """Decided by the class."""
    assert UPSTREAM[name].billed == Billed(billed)


def test_the_body_is_openai_shaped():
    """Four members, always; instances refine code and param, not the class."""
    error = errors.InvalidRequest("no", param="messages[0]", code="c")
    assert error.body() == {
        "error": {"message": "no", "type": "invalid_request_error", "param": "messages[0]", "code": "c"}
    }
    assert errors.InvalidRequest("no").body()["error"]["code"] is None
    for name, one in CLASSES.items():
        if issubclass(one, CoeError) and not issubclass(one, UpstreamError):
            assert one("m").body()["error"].keys() == {"message", "type", "param", "code"}, name


def test_headers_are_the_instances_own():
    """Errors are raised from many requests at once."""
    given = {"retry-after": "1"}
    one, other = errors.Overloaded("m", headers=given), errors.Overloaded("m")
    one.headers["x"] = "y"
    assert (given, other.headers) == ({"retry-after": "1"}, {})


def test_a_refusal_for_the_caller_keeps_its_status():
    """Only when it is passed through; else it is a bad gateway."""
    passed = Replied("m", cause="caller_error", upstream_status=422, passthrough=True, param="p", code="c")
    assert (passed.status, passed.type, passed.param, passed.code) == (422, "invalid_request_error", "p", "c")
    hidden = Replied("m", cause="auth_failed", upstream_status=401)
    assert (hidden.status, hidden.type, hidden.code) == (502, "upstream_error", "upstream_failed")
    assert Replied.status == 502


def test_registry_problems_are_lines():
    """In the order of the file; start-up errors are not of HTTP."""
    error = errors.RegistryError(("a:1:2: x", "a:3:4: y"))
    assert str(error) == "a:1:2: x\na:3:4: y"
    assert error.problems == ("a:1:2: x", "a:3:4: y")
    assert not issubclass(ConfigurationError, CoeError)
