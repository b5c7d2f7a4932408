"""Any value of a msgspec type, for hypothesis: derived from what the type says of itself, constraints included."""

from typing import Any, Final, TypeVar

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from msgspec import inspect

# No deadline: the machine may be busy, and how long reading takes is not the question here.
examples: Final = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
_T = TypeVar("_T")
_TEXT: Final = st.characters(codec="utf-8")


def values(kind: type[_T]) -> st.SearchStrategy[_T]:
    """Values of a type, as far as the protocols use msgspec's types."""
    return _of(inspect.type_info(kind))


def _of(info: inspect.Type) -> st.SearchStrategy[Any]:  # noqa: C901, PLR0911, PLR0912 - a branch a type
    match info:
        case inspect.Metadata(type=inner):
            return _of(inner)
        case inspect.NoneType():
            return st.none()
        case inspect.BoolType():
            return st.booleans()
        case inspect.IntType():
            return st.integers(_least(info, -(2**31)), info.le if info.le is not None else 2**31)
        case inspect.FloatType():
            return st.floats(
                _least(info, -1e12), info.le if info.le is not None else 1e12, exclude_min=info.gt is not None
            )
        case inspect.StrType(pattern=None):
            return st.text(_TEXT, max_size=min(info.max_length or 20, 20))
        case inspect.StrType():
            return st.from_regex(info.pattern)
        case inspect.BytesType():
            return st.binary(max_size=min(info.max_length or 40, 40))
        case inspect.EnumType(cls=cls):
            return st.sampled_from(list(cls))
        case inspect.VarTupleType(item_type=item):
            return st.lists(_of(item), max_size=3).map(tuple)
        case inspect.DictType(key_type=key, value_type=value):
            return st.dictionaries(_of(key), _of(value), max_size=3)
        case inspect.UnionType(types=types):
            return st.one_of(*map(_of, types))
        case inspect.StructType(cls=cls, fields=fields):
            return st.builds(cls, **{field.name: _of(field.type) for field in fields})
    raise NotImplementedError(f"no strategy for {info}")


def _least(info: inspect.IntType | inspect.FloatType, otherwise: float) -> Any:
    if info.gt is not None:
        return info.gt
    return info.ge if info.ge is not None else otherwise


def kinds(union: Any) -> list[type[msgspec.Struct]]:
    """The structs in a union, or the one that it is."""
    return list(getattr(union, "__args__", None) or [union])
