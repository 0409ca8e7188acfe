"""Describes an option once: as a field of a frozen dataclass.

From the field come its flag on the command line with type, default and help, its check, its place
in a Python signature, and its row in the documentation's tables.
"""

import argparse
import dataclasses
import difflib
import inspect
import os
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from pipeline.errors import UserError

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Option:
    """What a field knows beside its name, type and default.

    Attributes:
      help: what the option does; the default is appended where the text does not name it.
      metavar: what stands for its value in help, e.g. `N`.
      parse: makes a value of a flag's text; raises ValueError with what is wrong.
      choices: the values that are allowed; empty: any.
      least: the smallest value that is allowed.
      check: raises ValueError with what is wrong with a value, where `choices` and `least` do not
        say it.
      decides_bits: whether another value may lead to another result: a fit resumes only with the
        same one.
      recorded: whether metrics.json keeps the value: it says what was asked for, not how to ask.
      is_flag: whether the command line has a flag for it.
    """

    help: str
    metavar: str | None = None
    parse: Callable[[str], Any] | None = None
    choices: tuple[str, ...] = ()
    least: float | None = None
    check: Callable[[Any], None] | None = None
    decides_bits: bool = False
    recorded: bool = True
    is_flag: bool = True


def option(default: Any = dataclasses.MISSING, **described: Any) -> Any:
    """A field of a config; `described` are the attributes of Option."""
    return dataclasses.field(default=default, metadata={"option": Option(**described)})


def options_of(config: Any) -> Iterator[tuple[dataclasses.Field, Option]]:
    """The fields of a config, or of its class, and what they know."""
    for field in dataclasses.fields(config):
        yield field, field.metadata["option"]


def flag_of(name: str) -> str:
    """The flag of a field: --num-shards for num_shards."""
    return "--" + name.replace("_", "-")


def is_required(field: dataclasses.Field) -> bool:
    """Whether a field has no default."""
    return field.default is dataclasses.MISSING


def check(config: Any) -> None:
    """Checks every value of a config as its field says; paths become strings.

    Raises:
      UserError: a value is not allowed; the message names the flag, the value and what is.
    """
    for field, known in options_of(config):
        value = getattr(config, field.name)
        if isinstance(value, os.PathLike):
            object.__setattr__(config, field.name, os.fspath(value))  # the config is frozen
            value = os.fspath(value)
        if value is None and not is_required(field):
            continue
        flag = flag_of(field.name)
        if known.choices and value not in known.choices:
            raise UserError(f"{flag} {value}: choose from {', '.join(known.choices)}")
        if known.least is not None and not value >= known.least:
            raise UserError(f"{flag} {value}: must be at least {known.least:g}")
        if known.check is not None:
            try:
                known.check(value)
            except ValueError as error:
                raise UserError(f"{flag} {value}: {error}") from error


def build(config_class: type[T], values: Mapping[str, Any]) -> T:
    """A config of `values`, as a Python caller gives them.

    Raises:
      TypeError: one of them is no option, or a required one is missing; the message names the
        nearest option.
      UserError: a value is not allowed.
    """
    fields = {field.name: field for field in dataclasses.fields(config_class)}  # type: ignore[arg-type]
    for name in values:
        if name not in fields:
            near = difflib.get_close_matches(name, fields, n=1, cutoff=0.5)
            hint = f": did you mean {near[0]}?" if near else f"; there are {', '.join(fields)}"
            raise TypeError(f"unknown option {name!r}{hint}")
    for name, field in fields.items():
        if is_required(field) and name not in values:
            raise TypeError(f"missing option {name!r}: {field.metadata['option'].help}")
    return config_class(**values)


def signature(
    function: Callable[..., Any], config_class: type, **defaults: Any
) -> inspect.Signature:
    """The signature of `function` with the options that its `**options` stand for.

    Args:
      function: has parameters of its own for the required options.
      defaults: of the function, where they are others than the config's.
    """
    given = inspect.signature(function)
    own = [p for p in given.parameters.values() if p.kind is not p.VAR_KEYWORD]
    options = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=defaults.get(field.name, field.default),
            annotation=field.type,
        )
        for field, _ in options_of(config_class)
        if not is_required(field)
    ]
    return given.replace(parameters=[*own, *options])


def recorded(config: Any) -> dict[str, Any]:
    """The values of a config that a result keeps, by name."""
    return {
        field.name: getattr(config, field.name)
        for field, known in options_of(config)
        if known.recorded
    }


def decisive(config: Any) -> dict[str, Any]:
    """The values of a config that decide the bits of a result, by name."""
    return {
        field.name: getattr(config, field.name)
        for field, known in options_of(config)
        if known.decides_bits
    }


def add_flags(
    parser: argparse.ArgumentParser, config_class: type, without: tuple[str, ...] = ()
) -> None:
    """Adds a flag for every field of `config_class` but those named in `without`."""
    for field, known in options_of(config_class):
        if known.is_flag and field.name not in without:
            _add_flag(parser, field, known)


def from_flags(config_class: type[T], flags: Mapping[str, Any], **given: Any) -> T:
    """A config of parsed flags; `given` are values without a flag, or in place of one."""
    names = {field.name for field in dataclasses.fields(config_class)}  # type: ignore[arg-type]
    values = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in flags.items()
        # A flag that takes several words has no default, to which argparse would add them.
        if name in names and value is not None
    }
    return config_class(**{**values, **given})


def to_flags(config: Any, without: tuple[str, ...] = ()) -> list[str]:
    """The flags that differ from their defaults, as words of a command line."""
    words: list[str] = []
    for field, known in options_of(config):
        value = getattr(config, field.name)
        if not known.is_flag or field.name in without or value == field.default:
            continue
        words.append(flag_of(field.name))
        if isinstance(value, tuple):
            words += map(str, value)
        elif value is not True:
            words.append(f"{value:.17g}" if isinstance(value, float) else str(value))
    return words


def table(config_class: type, without: tuple[str, ...] = ()) -> str:
    """A Markdown table of a config's flags: name, default, meaning."""
    rows = ["| option | default | meaning |", "|---|---|---|"]
    for field, known in options_of(config_class):
        if known.is_flag and field.name not in without:
            name = (
                f"`{flag_of(field.name)} {known.metavar or '|'.join(known.choices)}".strip() + "`"
            )
            cells = (name, _default_text(field), known.help)
            rows.append("".join(f"| {cell.replace('|', chr(92) + '|')} " for cell in cells) + "|")
    return "\n".join(rows) + "\n"


def _default_text(field: dataclasses.Field) -> str:
    if is_required(field):
        return "required"
    if field.default is None or isinstance(field.default, bool):
        return ""
    return f"`{field.default}`"


def _add_flag(parser: argparse.ArgumentParser, field: dataclasses.Field, known: Option) -> None:
    flag, text = flag_of(field.name), known.help.replace("%", "%%")
    if field.type is bool:
        parser.add_argument(flag, action="store_true", help=text)
        return
    if not (is_required(field) or field.default is None or "default" in text):
        default = f"{field.default:g}" if isinstance(field.default, float) else field.default
        text += f" (default: {default})"
    settings: dict[str, Any] = {"help": text, "metavar": known.metavar or "|".join(known.choices)}
    if typing.get_origin(field.type) is tuple and known.parse is None:
        settings |= {"nargs": "+", "action": "extend"}
    else:
        settings["type"] = argument_type(known.parse or _type_of(field))
    parser.add_argument(
        flag,
        required=is_required(field),
        default=None if is_required(field) or settings.get("action") else field.default,
        **{name: value for name, value in settings.items() if value},
    )


def _type_of(field: dataclasses.Field) -> Callable[[str], Any]:
    """int, float or str: the type of a field's value where there is one."""
    kinds = (
        typing.get_args(field.type) if isinstance(field.type, types.UnionType) else (field.type,)
    )
    return next(kind for kind in kinds if kind is not types.NoneType)


def argument_type(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """`parse` as argparse wants it: with the text of the ValueError in the message."""
    if parse in (int, float, str):
        return parse  # argparse names these itself

    def parsed(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return parsed
