"""TOML tables into frozen dataclasses and back, with every mistake listed at once."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
import types
import typing
from collections.abc import Collection, Mapping, Sequence
from dataclasses import MISSING, field
from pathlib import Path
from typing import Any

from ..errors import ConfigError, DatasetError
from .files import write_text

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TomlError = tomllib.TOMLDecodeError
_LARGEST = 2**63 - 1
_SHOWN_CHARACTERS = 200  # of a value in an error


def setting(
    default: Any = MISSING,
    *,
    choices: Sequence[str] | None = None,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
) -> Any:
    """A field whose values are limited: one of `choices`; from `low` to `high`; more than `above`."""
    return field(default=default, metadata={"choices": choices, "low": low, "high": high, "above": above})


def parse_toml(text: str) -> dict[str, Any]:
    """TomlError where it is none."""
    try:
        return tomllib.loads(text)
    except TomlError:
        raise
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, tables nested as deep
        raise TomlError(str(error)) from None


def build(kind: type, table: Any, where: str, problems: list[str], valid: dict[str, Any] | None = None) -> Any:
    """The dataclass `kind` from a table; None where `problems` got entries, each beginning with the key's whole name.

    Fields may be bool, int, float, str, another dataclass, a tuple of any of these (of any length, or as long as its
    annotation says), or one of several of these.
    valid: gets each value that is as it should be, its default among them, under its key's whole name, so that more can
        be checked whatever else is wrong.
    """
    before = len(problems)
    if not isinstance(table, Mapping):
        problems.append(f"{where}: {_shown(table)}, expected a table")
        return None
    fields = {f.name: f for f in dataclasses.fields(kind)}
    for key in sorted(table.keys() - fields.keys()):
        problems.append(f"{_join(where, key)}: unknown key, expected one of {', '.join(fields)}")
    valid = {} if valid is None else valid
    values = {}
    for name, hint in typing.get_type_hints(kind).items():
        count = len(problems)
        value = _value_of(fields[name], hint, table, _join(where, name), problems, valid)
        if len(problems) == count:
            values[name] = valid[_join(where, name)] = value
    return _made(kind, values, where, problems, before) if _required(fields) <= values.keys() else None


def _value_of(
    item: dataclasses.Field, hint: Any, table: Mapping[str, Any], key: str, problems: list[str], valid: dict[str, Any]
) -> Any:
    if _is_table(hint):  # a table that is not there is one that states nothing
        return build(hint, table.get(item.name, {}), key, problems, valid)
    if item.name not in table:
        if item.default is MISSING and item.default_factory is MISSING:
            problems.append(f"{key}: missing")
            return None
        return item.default if item.default_factory is MISSING else item.default_factory()
    value = _convert(hint, table[item.name], key, problems)
    if value is not None:
        check_limits(value, item.metadata, key, problems)
    return value


def _is_table(hint: Any) -> bool:
    return dataclasses.is_dataclass(hint)


def _required(fields: Mapping[str, dataclasses.Field]) -> set[str]:
    return {name for name, f in fields.items() if f.default is MISSING and f.default_factory is MISSING}


def _made(kind: type, values: Mapping[str, Any], where: str, problems: list[str], before: int) -> Any:
    """`kind` of the values that are valid, for what its fields do not say one by one; None where anything is wrong."""
    try:
        made = kind(**values)
    except ValueError as error:
        problems.append(str(error) if isinstance(error, ConfigError) else f"{where}.{error}")
        return None
    return made if len(problems) == before else None


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _convert(hint: Any, value: Any, where: str, problems: list[str]) -> Any:
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    if _is_table(options[0]):
        return build(options[0], value, where, problems)
    if type(value) is int and not -_LARGEST - 1 <= value <= _LARGEST:
        problems.append(f"{where}: a whole number of {value.bit_length()} bits, expected one of 64, as TOML has them")
        return None
    tuples = [option for option in options if typing.get_origin(option) is tuple]
    if tuples and isinstance(value, (list, tuple)):
        return _convert_tuple(tuples[0], value, where, problems)
    for option in options:
        if option is float and isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
        if option in (bool, int, str) and type(value) is option:
            return value
    problems.append(f"{where}: {_shown(value)}, expected {' or '.join(map(_name, options))}")
    return None


def _convert_tuple(hint: Any, value: Sequence[Any], where: str, problems: list[str]) -> tuple | None:
    kinds = typing.get_args(hint)
    if kinds[-1] is Ellipsis:
        kinds = kinds[:1] * len(value)
    elif len(kinds) != len(value):
        problems.append(f"{where}: {len(value)} values, expected {len(kinds)}")
        return None
    return tuple(_convert(kind, v, f"{where}[{i}]", problems) for i, (kind, v) in enumerate(zip(kinds, value)))


def _name(hint: Any) -> str:
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    if typing.get_origin(hint) is tuple:
        return f"a list, each {_name(typing.get_args(hint)[0])}"
    return names.get(hint, "a table")


def check_limits(value: Any, limits: Mapping[str, Any], where: str, problems: list[str]) -> None:
    """Appends to `problems` where a value, or one of a tuple, is not what a field's metadata (`setting`) allows."""
    if (choices := limits.get("choices")) and value not in choices:
        problems.append(f"{where}: {_shown(value)}, expected one of {', '.join(choices)}")
    for number in value if isinstance(value, tuple) else (value,):
        if not isinstance(number, (int, float)) or isinstance(number, bool):
            continue
        low, high, above = limits.get("low"), limits.get("high"), limits.get("above")
        if not math.isfinite(number):
            problems.append(f"{where}: {number}, expected a finite number")
        elif low is not None and number < low:
            problems.append(f"{where}: {number:g}, expected at least {low:g}")
        elif above is not None and number <= above:
            problems.append(f"{where}: {number:g}, expected more than {above:g}")
        elif high is not None and number > high:
            problems.append(f"{where}: {number:g}, expected at most {high:g}")


def _shown(value: Any) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except ValueError:  # Python writes no number of more than 4300 digits
        return "a number of thousands of digits"
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with what `changes` states; tables are merged, everything else is replaced."""
    merged = dict(base)
    for key, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def to_toml(config: Any) -> str:
    """A dataclass of dataclasses as TOML that `build` reads back to the same."""
    plain = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    tables = {name: plain.pop(name) for name, value in list(plain.items()) if dataclasses.is_dataclass(value)}
    lines = _pairs(plain)
    for name, table in tables.items():
        lines += ["", f"[{name}]", *_pairs({f.name: getattr(table, f.name) for f in dataclasses.fields(table)})]
    return "\n".join(lines).lstrip("\n") + "\n"


def _pairs(values: Mapping[str, Any]) -> list[str]:
    return [f"{name} = {_value(value)}" for name, value in values.items()]


def _value(value: Any) -> str:
    if dataclasses.is_dataclass(value):
        return "{ " + ", ".join(_pairs({f.name: getattr(value, f.name) for f in dataclasses.fields(value)})) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value).lower() if isinstance(value, bool) else repr(value)


def changed_settings(
    before: Mapping[str, Any],
    now: Mapping[str, Any],
    *,
    ignored: Collection[str] = (),
    text: str = "{} was {!r}, is {!r}",
    prefix: str = "",
) -> list[str]:
    """One text for each setting, of nested ones too, that is not what it was; None stands for one that is not there.

    Args:
        before: the settings that a folder was begun with.
        now: those that it is asked to go on with.
        ignored: whole names of settings that may differ, such as 'run.device'.
        text: takes the setting's whole name, its value in `before` and its value in `now`.
        prefix: of the whole names.
    """
    found = []
    for key in sorted(before.keys() | now.keys()):
        a, b, name = before.get(key), now.get(key), prefix + key
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found += changed_settings(a, b, ignored=ignored, text=text, prefix=f"{name}.")
        elif a != b and name not in ignored:
            found.append(text.format(name, a, b))
    return found


def check_settings(path: Path, settings: dict[str, Any], overwrite: bool = False) -> None:
    """Keeps a run's settings in `path`; DatasetError where a run with others is there already."""
    if not path.exists() or overwrite:
        write_text(path, json.dumps(settings, indent=1, sort_keys=True) + "\n")
        return
    try:
        held = json.loads(path.read_bytes())
    except ValueError:
        held = {}
    before = {key: held.get(key) for key in settings} if isinstance(held, dict) else {}
    if changes := changed_settings(before, settings):
        shown = ", ".join(changes)
        raise DatasetError(
            f"{path.parent}: holds a run with other settings ({shown}); choose another folder, or overwrite"
        )
