"""Options of a command in a YAML file: `--config` reads them, `--print-config` writes them.

A file holds the fields of the command's configs. Its values become words of the command line,
before those that are given there: so they are checked in the same way, and flags win.
"""

import argparse
import difflib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pipeline import storage
from pipeline.errors import UserError
from pipeline.options import flag_of
from pipeline.terminal import Parser

CONFIG, PRINT = "--config", "--print-config"
BEAM = "beam_options"
OURS = ("help", "config", "print_config", "verbose")  # flags that no file holds


def add_flags(parser: argparse._ActionsContainer) -> None:
    """Adds `--config` and `--print-config` to a command's parser."""
    parser.add_argument(
        CONFIG, metavar="FILE.yaml", help="file with options, by name; flags beside it win"
    )
    parser.add_argument(
        PRINT, action="store_true", help="print the options as such a file, and do nothing"
    )


def with_file(arguments: Sequence[str], parser: argparse.ArgumentParser) -> list[str]:
    """Puts the options of the file that `--config` names into the arguments of a command.

    Args:
      arguments: of the command, without its name.
      parser: of the command.

    Raises:
      UserError: the file cannot be read, or holds something else than options of the command.
    """
    path = _path(arguments, parser.prog)
    if path is None:
        return list(arguments)
    given = {word.partition("=")[0] for word in arguments if word.startswith("--")}
    return [*_words(_options(path), _actions(parser), given, path), *arguments]


def as_file(flags: argparse.Namespace, parser: argparse.ArgumentParser) -> str:
    """Returns the options of a command as the text of a file that `--config` reads."""
    import yaml  # only here, as most commands need none

    values = {name: getattr(flags, name) for name in _actions(parser)}
    # None stands for a default that depends on the images or the machine.
    kept = {name: _plain(value) for name, value in values.items() if value is not None}
    if flags.beam_options:
        kept[BEAM] = list(flags.beam_options)
    return yaml.safe_dump(kept, sort_keys=False, allow_unicode=True)


def _path(arguments: Sequence[str], program: str) -> str | None:
    found = Parser(prog=program, add_help=False)
    found.add_argument(CONFIG)
    return found.parse_known_args(arguments)[0].config


def _actions(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """The flags of a command that a file may hold, by name."""
    return {
        action.dest: action
        for action in parser._actions
        if action.option_strings and action.dest not in OURS
    }


def _options(path: str) -> dict[str, Any]:
    """Reads a file; names of options have `_` where flags have `-`, or `-` too."""
    import yaml

    try:
        found = yaml.safe_load(storage.read_bytes(path))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{CONFIG} {path}: not YAML: {' '.join(str(error).split())}") from error
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise UserError(f"{CONFIG} {path}: holds no options; write a line `name: value` for each")
    return {str(name).replace("-", "_"): value for name, value in found.items()}


def _words(
    options: dict[str, Any], actions: dict[str, argparse.Action], given: set[str], path: str
) -> Iterator[str]:
    """Yields words of a command line for options that are not `given` there."""
    for name, value in options.items():
        where = f"{CONFIG} {path}: {name}"
        if name == BEAM:
            yield from _texts(value, where)
            continue
        if name not in actions:
            near = difflib.get_close_matches(name, actions, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(actions)}"
            raise UserError(f"{where}: no option of this command; {hint}")
        flag = flag_of(name)
        if value is None or flag in given:
            continue
        if actions[name].nargs == 0:
            if not isinstance(value, bool):
                raise UserError(f"{where}: {value!r}; write true or false")
            yield from [flag] if value else []
        elif actions[name].nargs is None:
            # A list of numbers is what `--k` takes with commas, and --image-size with an x.
            between = "x" if name == "image_size" else ","
            yield f"{flag}={between.join(_texts(value, where))}"
        else:
            yield from (f"{flag}={text}" for text in _texts(value, where))


def _texts(value: Any, where: str) -> list[str]:
    """Returns a value, or each of several, as text."""
    values: Iterable[Any] = value if isinstance(value, list) else [value]
    if wrong := [v for v in values if isinstance(v, dict | list | bool) or v is None]:
        raise UserError(f"{where}: {wrong[0]!r}; write text or a number, or a list of them")
    return [f"{v:.17g}" if isinstance(v, float) else str(v) for v in values]


def _plain(value: Any) -> Any:
    """Returns a value as YAML has it."""
    if isinstance(value, list) or type(value) is tuple:
        return [_plain(each) for each in value]
    if isinstance(value, str | bool | int | float):
        return value
    return str(value)  # as the flag takes it
