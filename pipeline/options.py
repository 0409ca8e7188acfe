"""Options, each described once: as a field of a frozen dataclass, a config.

From the field follow the flag on the command line with its type, default and help, the check of
its value, its parameter in Python signatures, and its row in the tables of the documentation.
"""

import argparse
import dataclasses
import difflib
import inspect
import numbers
import operator
import os
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from pipeline.errors import UserError

T = TypeVar("T")
# Groups of options, in the order in which help shows them.
IMAGES, RESULT = "images", "clusters: what decides the bits of the result"
MACHINE, CLOUD = "machine: what decides how long it takes", "cloud"
FILES = "files and messages"
GROUPS = (IMAGES, RESULT, MACHINE, CLOUD, FILES)
# What messages call values of these types.
_KINDS: dict[Any, str] = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "text or a path",
}


@dataclasses.dataclass(frozen=True)
class Option:
    """Describes an option, beside the name, the type and the default of its field.

    Attributes:
      help: what the option does; the default is appended unless the text names it.
      metavar: stands for the value in help, e.g. `N`.
      parse: converts the text of a flag to a value; raises ValueError that says what is wrong.
      choices: the allowed values; empty if any value is allowed.
      least: the smallest allowed value.
      check: raises ValueError that says what is wrong with a value, for rules that `choices` and
        `least` cannot express.
      decides_bits: whether another value may change the result. A fit resumes only with the same
        value.
      recorded: whether metrics.json keeps the value.
      is_flag: whether the command line has a flag for it.
      group: the group of options that help shows it in, one of GROUPS.
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
    group: str = FILES


def option(default: Any = dataclasses.MISSING, **described: Any) -> Any:
    """Declares a field of a config; `described` are the attributes of Option."""
    return dataclasses.field(default=default, metadata={"option": Option(**described)})


def options_of(config: Any) -> Iterator[tuple[dataclasses.Field, Option]]:
    """Yields the fields of a config, or of its class, with their descriptions."""
    for field in dataclasses.fields(config):
        yield field, field.metadata["option"]


def flag_of(name: str) -> str:
    """Returns the flag of a field: --num-shards for num_shards."""
    return "--" + name.replace("_", "-")


def is_required(field: dataclasses.Field) -> bool:
    """Returns whether a field has no default."""
    return field.default is dataclasses.MISSING


def check(config: Any) -> None:
    """Checks every value of a config against its field; paths become strings.

    Raises:
      UserError: a value is not allowed. The message names the flag, the value and what is allowed.
    """
    for field, known in options_of(config):
        value = getattr(config, field.name)
        if value is None and field.default is None:
            continue
        try:
            value = _converted(value, _type_of(field))
            _check_value(value, known)
        except ValueError as error:
            raise UserError(f"{flag_of(field.name)} {value}: {error}") from error
        object.__setattr__(config, field.name, value)  # the config is frozen


def _converted(value: Any, kind: Any) -> Any:
    """Returns a caller's value as `kind`, the type of its field: a path as str, numpy's 3 as int.

    Raises:
      ValueError: it is no such value.
    """
    if kind is str and isinstance(value, str | os.PathLike):
        return os.fspath(value)
    if kind is float and isinstance(value, numbers.Real):
        return float(value)
    if kind is int and isinstance(value, numbers.Integral):
        return operator.index(value)
    if kind in _KINDS and not (kind is bool and isinstance(value, bool)):
        raise ValueError(f"must be {_KINDS[kind]}")
    return value


def _check_value(value: Any, known: Option) -> None:
    """Raises ValueError unless `value` is allowed."""
    if known.choices and value not in known.choices:
        raise ValueError(f"choose from {', '.join(known.choices)}")
    if known.least is not None and not value >= known.least:  # also refuses NaN
        raise ValueError(f"must be at least {known.least:g}")
    if known.check is not None:
        known.check(value)


def from_keywords(config_class: type[T], values: Mapping[str, Any]) -> T:
    """Makes a config of the keyword arguments of a Python caller.

    Raises:
      TypeError: one of them is no option, in which case the message names the nearest option; or a
        required one is missing.
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
    """Returns the signature of `function` with a parameter for every option of a config.

    Args:
      function: takes the required options by parameters of its own, the others as `**options`.
      defaults: defaults of the function that differ from the config's.
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
    """Returns the values of a config that a result keeps, by name."""
    return {
        field.name: getattr(config, field.name)
        for field, known in options_of(config)
        if known.recorded
    }


def decisive(config: Any) -> dict[str, Any]:
    """Returns the values of a config that decide the bits of a result, by name."""
    return {
        field.name: getattr(config, field.name)
        for field, known in options_of(config)
        if known.decides_bits
    }


def add_flags(
    parser: argparse.ArgumentParser,
    config_class: type,
    without: tuple[str, ...] = (),
    **other_help: str,
) -> None:
    """Adds a flag for every field of `config_class` but those named in `without`.

    Args:
      other_help: by field, what the flag does in this command if it is not what the field says.
    """
    for field, known in options_of(config_class):
        if known.is_flag and field.name not in without:
            text = other_help.get(field.name, known.help)
            group = group_of(parser, known.group)
            _add_flag(group, field, dataclasses.replace(known, help=text))


def group_of(parser: argparse.ArgumentParser, title: str) -> argparse._ArgumentGroup:
    """Returns the group of a parser's flags with this title; makes all groups if there are none."""
    for group in parser._action_groups:
        if group.title == title:
            return group
    made = {each: parser.add_argument_group(each) for each in GROUPS}
    return made[title]


def from_flags(config_class: type[T], flags: Mapping[str, Any], **given: Any) -> T:
    """Makes a config of parsed flags; `given` are values without a flag, or in place of one."""
    names = {field.name for field in dataclasses.fields(config_class)}  # type: ignore[arg-type]
    values = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in flags.items()
        # A flag of several words is None where it is not given: see _add_flag.
        if name in names and value is not None
    }
    return config_class(**{**values, **given})


def to_flags(config: Any, without: tuple[str, ...] = ()) -> list[str]:
    """Returns the flags whose values differ from their defaults, as words of a command line."""
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
    """Returns a Markdown table of a config's flags: name, default, meaning."""
    rows = ["| option | default | meaning |", "|---|---|---|"]
    for field, known in options_of(config_class):
        if known.is_flag and field.name not in without:
            flag = f"{flag_of(field.name)} {known.metavar or '|'.join(known.choices)}".strip()
            cells = f"`{flag}`", _default_text(field), known.help
            rows.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def _default_text(field: dataclasses.Field) -> str:
    if is_required(field):
        return "required"
    if field.default is None or isinstance(field.default, bool):
        return ""
    return f"`{field.default}`"


def _add_flag(parser: argparse._ArgumentGroup, field: dataclasses.Field, known: Option) -> None:
    flag, text = flag_of(field.name), known.help.replace("%", "%%")
    if field.type is bool:
        parser.add_argument(flag, action="store_true", help=text)
        return
    if not (is_required(field) or field.default is None or "default" in text):
        default = f"{field.default:g}" if isinstance(field.default, float) else field.default
        text += f" (default: {default})"
    settings: dict[str, Any] = {"help": text, "metavar": known.metavar or "|".join(known.choices)}
    if typing.get_origin(field.type) is tuple and known.parse is None:
        # Without a default: argparse would add the words that are given to it.
        settings |= {"nargs": "+", "action": "extend"}
    else:
        settings["type"] = argument_type(known.parse or _type_of(field))
    action = parser.add_argument(
        flag,
        required=is_required(field),
        default=None if is_required(field) or settings.get("action") else field.default,
        **{name: value for name, value in settings.items() if value},
    )
    if known.choices:  # for shells, which ask argcomplete
        action.completer = lambda **_: known.choices  # type: ignore[attr-defined]


def _type_of(field: dataclasses.Field) -> Any:
    """Returns the type of a field's value; of `int | None` that is int."""
    kinds = (
        typing.get_args(field.type) if isinstance(field.type, types.UnionType) else (field.type,)
    )
    return next(kind for kind in kinds if kind is not types.NoneType)


def argument_type(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """Wraps `parse` for argparse, which then says in one line what is wrong with a text."""

    def parsed(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            wrong = f"{text!r} is not {_KINDS[parse]}" if parse in _KINDS else str(error)
            raise argparse.ArgumentTypeError(wrong) from error

    return parsed
