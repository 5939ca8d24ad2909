"""Values that are built open and handed out frozen: nothing but the time tells them from other frozen dataclasses."""

from __future__ import annotations

import dataclasses
import inspect
from dataclasses import dataclass, field

import pytest

from service.domain.decision import Candidate, Decision
from service.domain.features import RequestFeatures
from service.domain.frozen import built_open


@dataclass(frozen=True, slots=True)
class Plain:
    """As dataclasses makes it."""

    name: str
    size: int = 3
    notes: list[str] = field(default_factory=list)
    hidden: str = field(default="h", repr=False, compare=False)


@built_open
@dataclass(frozen=True, slots=True)
class Open:
    """The same, built open."""

    name: str
    size: int = 3
    notes: list[str] = field(default_factory=list)
    hidden: str = field(default="h", repr=False, compare=False)


@pytest.mark.parametrize("make", [Plain, Open])
def test_both_behave_the_same(make):
    """Defaults, factories, equality, `repr`, `replace`, and the errors of a wrong call."""
    one, another = make("a"), make(name="a", hidden="other")
    assert (one.size, one.notes, one.hidden) == (3, [], "h")
    assert one == another
    assert one.notes is not another.notes
    assert repr(one) == f"{make.__name__}(name='a', size=3, notes=[])"
    assert dataclasses.replace(one, size=4) == make("a", 4)
    for wrong in ({}, {"nome": "a"}, {"name": "a", "colour": 1}):
        with pytest.raises(TypeError):
            make(**wrong)


@pytest.mark.parametrize("kind", [Candidate, Decision, RequestFeatures])
def test_what_is_handed_out_is_frozen(kind):
    """It is of its own class, and no field of it can be set or taken away."""
    needed = [one for one in inspect.signature(kind).parameters.values() if one.default is inspect.Parameter.empty]
    value = kind(*[None] * len(needed))
    assert type(value) is kind
    for one in dataclasses.fields(kind):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, one.name, None)
        with pytest.raises(dataclasses.FrozenInstanceError):
            delattr(value, one.name)


def test_the_call_is_the_one_that_dataclasses_makes():
    """Names, order and which of them have defaults."""
    ours, theirs = (inspect.signature(one).parameters.values() for one in (Open, Plain))
    assert [(one.name, one.kind) for one in ours] == [(one.name, one.kind) for one in theirs]


@dataclass(frozen=True, slots=True)
class _Settling:
    """Has work of its own to do when it is built."""

    size: int

    def __post_init__(self) -> None:
        """Do it."""


@dataclass(frozen=True)
class _Loose:
    """Has no slots."""

    size: int


@dataclass(frozen=True, slots=True)
class _Given:
    """Has a field that is no argument."""

    size: int = field(init=False, default=0)


@pytest.mark.parametrize("cls", [_Settling, _Loose, _Given, int])
def test_a_class_that_it_would_break_is_refused(cls):
    """With what it must be."""
    with pytest.raises(TypeError, match="dataclass"):
        built_open(cls)
