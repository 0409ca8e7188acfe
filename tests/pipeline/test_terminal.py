"""What a person sees: option errors, progress by a given clock, exit status."""

import io
import os
import sys

import pytest

from pipeline.errors import UserError
from pipeline.terminal import (
    LINE_SECONDS,
    Parser,
    Progress,
    exit_status,
    note,
    reject_flag,
    without_chatter,
)


def raising(error: BaseException):
    def command() -> None:
        raise error

    return command


def test_success_is_0():
    assert exit_status(lambda: None) == 0


def test_the_users_fault_is_2_and_one_line(capsys):
    assert exit_status(raising(UserError("x.npz: damaged\nand  more"))) == 2
    assert capsys.readouterr().err == "kmeans-job: error: x.npz: damaged\\nand more\n"


def test_interrupted_is_130(capsys):
    assert exit_status(raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "kmeans-job: interrupted\n"


def test_other_errors_go_through():
    with pytest.raises(ZeroDivisionError):
        exit_status(raising(ZeroDivisionError()))


def test_parser_errors_are_the_users():
    parser = Parser(prog="shard")
    parser.add_argument("--num-shards", type=int)
    with pytest.raises(UserError, match=r"invalid int value: 'x' \(see: shard --help\)"):
        parser.parse_args(["--num-shards", "x"])
    assert parser.flags() == ["--help", "--num-shards"]


def test_flags_are_not_abbreviated():
    parser = Parser()
    parser.add_argument("--num-shards", type=int)
    assert parser.parse_known_args(["--num", "3"])[1] == ["--num", "3"]


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--num-shard=3", "unknown option --num-shard: did you mean --num-shards?"),
        ("--zzz", "unknown option --zzz"),
        ("stray", "unexpected argument 'stray': options start with --"),
    ],
)
def test_unknown_flags_name_the_nearest(flag, message):
    with pytest.raises(UserError) as caught:
        reject_flag(flag, ["--num-shards", "--output"])
    assert str(caught.value) == message


def test_progress_in_lines_where_there_is_no_terminal():
    now = [0.0]
    with Progress(
        "shard", 1000, "images", stream=(out := io.StringIO()), clock=lambda: now[0]
    ) as p:
        for done in (0, 100, 250):
            p.update(done)
            now[0] += 0.6 * LINE_SECONDS
        p.update(1000, "fast")
    assert out.getvalue().splitlines() == [
        "shard: 0/1,000 images",
        "shard: 250/1,000 images",
        "shard: 1,000/1,000 images, fast",
    ]


def test_quiet_is_quiet():
    with Progress("shard", None, "images", quiet=True, stream=(out := io.StringIO())) as progress:
        progress.update(5)
    assert out.getvalue() == ""


def test_a_bar_on_a_terminal():
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    with Progress("shard", 10, "images", stream=(out := Terminal())) as progress:
        progress.update(10, "fast")
    assert "shard: 100%" in out.getvalue()
    assert "10/10" in out.getvalue()


def test_a_note_goes_to_stderr(capsys):
    note("3 images rejected")
    assert capsys.readouterr() == ("", "kmeans-job: 3 images rejected\n")


def print_in_the_middle(error: BaseException | None, capfd) -> str:
    """What is on stderr if a library prints and then `error` is raised."""
    try:
        with without_chatter() as terminal:
            os.write(2, b"INFO:worker: started\nsomething is wrong\n")
            print("at once", file=terminal, flush=True)
            assert "at once" in (seen := capfd.readouterr().err)
            assert "wrong" not in seen
            if error:
                raise error
    except (UserError, ValueError):
        pass
    sys.stderr.flush()
    return capfd.readouterr().err


def test_chatter_is_left_out(capfd):
    assert print_in_the_middle(None, capfd) == "something is wrong\n"


def test_what_led_to_an_error_is_shown(capfd):
    assert print_in_the_middle(ValueError(), capfd) == "something is wrong\n"


def test_a_users_error_speaks_for_itself(capfd):
    assert print_in_the_middle(UserError("damaged"), capfd) == ""
