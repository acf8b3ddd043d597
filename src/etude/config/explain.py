"""Configs in words: what a setting takes, and what is wrong with a value, in one sentence each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Len, Lt, MaxLen, MinLen
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from etude.config.fields import Time
from etude.errors import ConfigError, closest

M = TypeVar("M", bound=BaseModel)

_BOUNDS = {Ge: ("ge", "of at least"), Gt: ("gt", "above"), Le: ("le", "of at most"), Lt: ("lt", "below")}
_KNOWN_ELSEWHERE = {
    "lr": "optimizer.lr",
    "learning_rate": "optimizer.lr",
    "weight_decay": "optimizer.weight_decay",
    "max_seq_length": "backbone.max_length",
    "num_train_epochs": "train.epochs",
    "per_device_train_batch_size": "train.batch_size",
}
"""Keys that people bring along from other places and libraries."""

_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    Time: "a time as '3ep', '500st' or '0.3dur'",
}


def validated(model: type[M], table: Mapping[str, Any], where: str = "") -> M:
    """Make a config of a table, or say in one sentence what is wrong with it.

    Args:
        model: the config's class.
        table: keys and values as they were given.
        where: the path of the table in the whole config, as ``"techniques.ema"``.

    Raises:
        ConfigError: with the first fault, and the number of the others.
    """
    try:
        return model.model_validate(dict(table))
    except ValidationError as error:
        raise ConfigError(_first_fault(model, error.errors(include_url=False), where)) from None


def takes(annotation: Any, metadata: Iterable[Any] = ()) -> str:
    """Say what values a type admits.

    >>> takes(int, [Ge(1)])
    'a whole number of at least 1'
    >>> takes(Literal["cls", "mean"] | None)
    "'cls' or 'mean'"
    >>> takes(list[str])
    'a list of texts'
    """
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return takes(args[0], [*_flat(args[1:]), *metadata])
    words = bounds_in_words(metadata)
    bounds = f" {words}" if words else ""
    if origin in (Union, UnionType):
        kinds = [takes(arg) for arg in args if arg is not NoneType]
        return _either(kinds) + bounds
    if origin is Literal:
        return _either([_shown(arg) for arg in args if arg is not None])
    if origin is list or (origin is tuple and args[-1:] == (...,)):
        return f"a list of {takes(args[0]).removeprefix('a ')}s{bounds}"
    if origin is tuple:
        kinds = list(dict.fromkeys(takes(arg) for arg in args))
        each = f", each {kinds[0]}" if len(kinds) == 1 else f": {', '.join(takes(arg) for arg in args)}"
        return f"a list of {len(args)}{each}"
    if origin is dict or (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        return "a table"
    return _WORDS.get(annotation, getattr(annotation, "__name__", str(annotation))) + bounds


def bounds_in_words(metadata: Iterable[Any]) -> str:
    """Say the bounds of a field, or nothing where it has none.

    >>> bounds_in_words([Ge(0), Lt(1)])
    'of at least 0 and below 1'
    >>> bounds_in_words([Ge(0), Le(1)])
    'from 0 to 1'
    """
    words: dict[type, str] = {}
    for bound in _flat(metadata):
        for kind, (attribute, word) in _BOUNDS.items():
            if isinstance(bound, kind):
                words[kind] = f"{word} {getattr(bound, attribute):g}"
        if isinstance(bound, MinLen | Len) and bound.min_length:
            words[MinLen] = f"with at least {bound.min_length} items"
        if isinstance(bound, MaxLen | Len) and bound.max_length is not None:
            words[MaxLen] = f"with at most {bound.max_length} items"
    if words.keys() == {Ge, Le}:
        return f"{words[Ge].replace('of at least', 'from')} {words[Le].replace('of at most', 'to')}"
    first, *others = words.values() or [""]
    return " and ".join([first, *(word.removeprefix("of ") for word in others)])


def default_in_words(field: FieldInfo) -> str:
    """Say a field's default as a config file would, or that it must be given."""
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    return "absent" if default is None else _shown(default)


def _flat(metadata: Iterable[Any]) -> list[Any]:
    """Take the bounds out of the ``Field(...)`` that an annotation may carry them in."""
    flat: list[Any] = []
    for item in metadata:
        flat.extend(item.metadata if isinstance(item, FieldInfo) else [item])
    return flat


def _either(words: Sequence[str]) -> str:
    unique = list(dict.fromkeys(words))
    if len(unique) < 2:
        return "".join(unique)
    return f"{', '.join(unique[:-1])} or {unique[-1]}"


def _shown(value: Any) -> str:
    """Show a value as it would stand in the file: ``true``, ``'text'``, ``[1, 2]``."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Time):
        return repr(str(value))
    text = repr(list(value) if isinstance(value, tuple) else value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _first_fault(model: type[BaseModel], errors: list[ErrorDetails], where: str) -> str:
    """Word the first fault: unknown keys come first, since they often explain a missing one."""
    errors = sorted(errors, key=lambda error: error["type"] != "extra_forbidden")
    faults: dict[str, str] = {}
    for error in errors:
        path, words = _fault(model, error, where)
        faults.setdefault(path, words)
    more = len(faults) - 1
    first = next(iter(faults.values()))
    return first + (f" (and {more} more {'error' if more == 1 else 'errors'})" if more else "")


def _fault(model: type[BaseModel], error: ErrorDetails, where: str) -> tuple[str, str]:
    """Return the path of a faulty key and the sentence about it."""
    keys, field, table = _locate(model, error["loc"])
    path = ".".join([where, *keys] if where else keys)
    if error["type"] == "extra_forbidden":
        return path, _unknown_key(table, path, model)
    if error["type"] == "missing":
        if field and field.description:
            return path, f"{path} is missing: {field.description}"
        return path, f"the table [{path}] is missing"
    if error["type"] == "value_error":
        reason = str(error.get("ctx", {}).get("error", error["msg"]))
        return path, f"{path}: {reason}" if path else reason
    if error["type"] == "union_tag_invalid" and field is not None:
        tag = str(error.get("ctx", {}).get("tag"))
        known = _kinds(field)
        expected = _either([repr(kind) for kind in known])
        return path, f"{path}.kind is {tag!r} and must be {expected}{closest(tag, known)}"
    expected = takes(field.annotation, field.metadata) if field else "a table"
    return path, f"{path or 'the config'} {_given(error, len(keys))} and must be {expected}"


def _given(error: ErrorDetails, depth: int) -> str:
    """Show the value, or the item of it that is at fault."""
    items = [part for part in error["loc"][depth:] if isinstance(part, int)]
    shown = _shown(error["input"])
    return f"has {shown} as item {items[0] + 1}" if items else f"is {shown}"


def _locate(
    model: type[BaseModel], location: tuple[int | str, ...]
) -> tuple[list[str], FieldInfo | None, type[BaseModel]]:
    """Follow pydantic's location down the models; what is left names a member of a union or an item.

    Returns:
        The keys, the last key's field (``None`` for a key of no model) and the model it stands in.
    """
    keys: list[str] = []
    field: FieldInfo | None = None
    table = model
    kinds: dict[str, type[BaseModel]] = {}
    for position, part in enumerate(location):
        if not isinstance(part, str):
            break
        if position and part in kinds:  # pydantic names the member of a union; the file does not
            table = kinds[part]
            continue
        keys.append(part)
        field = table.model_fields.get(part)
        is_last = position + 1 == len(location)
        kinds = _kinds(field)
        if kinds and not is_last:
            continue
        inner = _model(field)
        if field is not None and get_origin(field.annotation) is dict and not is_last:
            return [*keys, str(location[position + 1])], None, table
        if inner is None or is_last:
            break
        table = inner
    return keys, field, table


def _unknown_key(table: type[BaseModel], path: str, root: type[BaseModel]) -> str:
    *outer, key = path.split(".")
    place = f" in [{'.'.join(outer)}]" if outer else ""
    hint = _elsewhere(key, table, root) or closest(key, table.model_fields)
    return f"unknown key '{key}'{place}" + (hint or f"; it takes {', '.join(table.model_fields)}")


def _elsewhere(key: str, table: type[BaseModel], root: type[BaseModel]) -> str:
    if key in _KNOWN_ELSEWHERE:
        return f"; write it as {_KNOWN_ELSEWHERE[key]}"
    for section, field in root.model_fields.items():
        for inner in _kinds(field).values() or [_model(field)]:
            if inner is not None and inner is not table and key in inner.model_fields:
                return _placed(section, inner, table)
    return ""


def _placed(section: str, model: type[BaseModel], given: type[BaseModel]) -> str:
    """Say where a key belongs; another kind of the same section is named as such."""
    kind, own = (
        get_args(m.model_fields["kind"].annotation) if "kind" in m.model_fields else ()
        for m in (model, given)
    )
    if kind and own:
        return f"; it is a setting of kind = {kind[0]!r}"
    return f"; it belongs in [{section}]"


def _kinds(field: FieldInfo | None) -> dict[str, type[BaseModel]]:
    """The models of a field that takes one of several tables, by their ``kind``."""
    found: dict[str, type[BaseModel]] = {}
    for member in get_args(field.annotation) if field else ():
        model = get_args(member)[0] if get_origin(member) is Annotated else member
        if isinstance(model, type) and issubclass(model, BaseModel) and "kind" in model.model_fields:
            found[get_args(model.model_fields["kind"].annotation)[0]] = model
    return found


def _model(field: FieldInfo | None) -> type[BaseModel] | None:
    """The model of a field that is a table with keys of its own."""
    annotation = field.annotation if field else None
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def search_range(field: FieldInfo) -> str:
    """Say where a tuner may look for a value, as ``0 to 0.2``, or nothing."""
    extra = field.json_schema_extra
    found = extra.get("search") if isinstance(extra, dict) else None
    if not isinstance(found, dict):
        return ""
    scale = "" if found["scale"] == "uniform" else f", {found['scale']}"
    return f"{found['low']:g} to {found['high']:g}{scale}"


def unit(field: FieldInfo) -> str:
    """The unit of a setting, or nothing."""
    extra = field.json_schema_extra
    return str(extra.get("unit", "")) if isinstance(extra, dict) else ""
