"""Frozen values that are built at the price of open ones: for the few wide ones that every request builds.

Where on the path: `chat`, `features` and `decision`. A frozen dataclass stores each field through `object.__setattr__`;
with twenty fields this is most of what building it costs. `built_open` gives it another `__init__`: while that
runs, the new value has a class of the same layout that takes plain assignments.

Invariants
1. Nobody but the `__init__` ever sees the open class: what is handed out is as frozen as before.
2. Equality, `repr`, `replace`, defaults and errors are those of the dataclass.
"""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any, TypeVar

Value = TypeVar("Value")


def built_open(cls: type[Value]) -> type[Value]:
    """Give a frozen dataclass with slots the quicker `__init__`.

    Raises TypeError for a class that it can't be given to: one without slots of its own, with a base class, with
    `__post_init__` or with fields that are no arguments.
    """
    told = fields(cls)  # type: ignore[arg-type] # raises TypeError itself for what is no dataclass
    names = tuple(one.name for one in told)
    plain = all(one.init and not one.kw_only for one in told) and not hasattr(cls, "__post_init__")
    if not plain or cls.__bases__ != (object,) or getattr(cls, "__slots__", None) != names:
        raise TypeError(f"{cls.__name__} must be a dataclass with slots, without a base and without __post_init__")
    around: dict[str, Any] = {
        "_open": type(cls.__name__, (), {"__slots__": names}),
        "_frozen": cls,
        "_dress": object.__setattr__,
        "_made": MISSING,
    }
    arguments, body = ["self"], ["_dress(self, '__class__', _open)"]
    for one in told:
        name = one.name
        if one.default_factory is not MISSING:
            around[f"_new_{name}"] = one.default_factory
            arguments.append(f"{name}=_made")
            body.append(f"self.{name} = _new_{name}() if {name} is _made else {name}")
            continue
        if one.default is not MISSING:
            around[f"_default_{name}"] = one.default
            arguments.append(f"{name}=_default_{name}")
        else:
            arguments.append(name)
        body.append(f"self.{name} = {name}")
    body.append("self.__class__ = _frozen")
    source = f"def __init__({', '.join(arguments)}):\n " + "\n ".join(body)
    exec(source, around)  # noqa: S102 # made of the names of fields alone, as dataclasses makes its own
    quick = around["__init__"]
    quick.__qualname__, quick.__doc__ = f"{cls.__qualname__}.__init__", cls.__init__.__doc__
    quick.__annotations__ = cls.__init__.__annotations__
    cls.__init__ = quick  # type: ignore[method-assign] # the same arguments, read off the same fields
    return cls
