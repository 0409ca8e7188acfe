"""Options in a YAML file: the same as on the command line, where flags win."""

import os
import subprocess
import sys

import pytest
import yaml
from jobs import ROOT

from job import cli
from job.config_file import with_file
from pipeline.errors import UserError


def printed(capsys, *words) -> dict:
    """What `--print-config` says of a command line."""
    assert cli.main([*map(str, words), "--print-config"]) == 0
    return yaml.safe_load(capsys.readouterr().out)


def parsed(*words):
    parser = cli.build_parser()
    command = parser.commands[words[0]]
    flags = parser.parse_known_args([words[0], *with_file(words[1:], command)])[0]
    return {name: value for name, value in vars(flags).items() if name != "config"}


COMMANDS = {
    "run": "--input a 'b c' --output=-o --k 8,10 --tol 1e-5 --image-size 4x6 --overwrite",
    "shard": "--input x --output y --label-column none --max-rejected 0.5 --transform pca:3",
    "fit": "--shards s --output o --k 3 --init c.npy --seed -4 --memory stream --log-level info",
    "assign": "--model m --input x --output y --color gray --num-shards 3",
    "export": "--run r --output o --what outliers --per-cluster 3 --link",
    "report": "--run r",
    "submit": cli.EXAMPLES["submit"] + " --timeout-hours 2.5",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_printed_is_read_back(command, capsys, tmp_path):
    import shlex

    words = [command, *shlex.split(COMMANDS[command])]
    assert cli.main([*words, "--print-config"]) == 0
    (path := tmp_path / "options.yaml").write_text(capsys.readouterr().out)
    expected, found = parsed(*words), parsed(command, "--config", str(path))
    assert {**found, "parser": None} == {**expected, "parser": None}


def test_flags_win(capsys, tmp_path):
    (path := tmp_path / "options.yaml").write_text(
        "input: [a, b]\noutput: out\nk: [4, 6]\nmax-iterations: 7\nimage_size: [8, 9]\n"
        "overwrite: true\nquiet: false\nbeam_options: [--runner=FnApiRunner]\nseed: null\n"
    )
    found = printed(capsys, "run", "--config", path)
    assert (found["input"], found["k"], found["max_iterations"]) == (["a", "b"], "4,6", 7)
    assert (found["image_size"], found["overwrite"], found["seed"]) == ([8, 9], True, 0)
    assert found["beam_options"] == ["--runner=FnApiRunner"]
    found = printed(capsys, "run", f"--config={path}", "--input", "c", "--k=5", "--seed", 2)
    assert (found["input"], found["k"], found["seed"]) == (["c"], "5", 2)
    assert (found["output"], found["max_iterations"]) == ("out", 7)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sead: 1", "options.yaml: sead: no option of this command; did you mean seed?"),
        ("zzzz: 1", "zzzz: no option of this command; there are k, shards, output"),
        ("model: x", "model: no option of this command"),
        ("quiet: 3", "quiet: 3; write true or false"),
        ("seed: {a: 1}", "seed: {'a': 1}; write text or a number"),
        ("seed: x", "argument --seed: 'x' is not a whole number"),
        ("- seed", "options.yaml: holds no options; write a line `name: value` for each"),
        ("a: [", "options.yaml: not YAML: while parsing"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(text, message, tmp_path, capsys):
    (path := tmp_path / "options.yaml").write_text(text)
    words = ["fit", "--shards", "s", "--output", "o", "--k", "2", "--config", str(path)]
    assert cli.main(words) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_a_file_that_is_not_there(tmp_path, capsys):
    assert cli.main(["fit", "--config", str(tmp_path / "no.yaml")]) == 2
    assert "no.yaml: cannot read: No such file" in capsys.readouterr().err
    assert cli.main(["fit", "--config"]) == 2
    assert "argument --config: expected one argument" in capsys.readouterr().err


@pytest.mark.parametrize("command", cli.EXAMPLES)
def test_help_has_groups_and_an_example(command, capsys):
    parser = cli.build_parser().commands[command]
    text = " ".join(parser.format_help().split())
    assert f"example: kmeans-job {command} {cli.EXAMPLES[command]}" in text
    if command != "report":
        assert "files and messages: --" in text
    cli.build_parser().parse_args([command, *cli.EXAMPLES[command].split()])


def test_help_says_what_exit_statuses_mean():
    text = " ".join(cli.build_parser().format_help().split())
    assert "130 after Ctrl-C and 143 after SIGTERM" in text


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("kmeans-job ex", {"export "}),
        ("kmeans-job fit --max", {"--max-iterations "}),
        ("kmeans-job fit --algorithm l", {"lloyd "}),
    ],
)
def test_a_shell_is_told_what_may_follow(line, expected, tmp_path):
    pytest.importorskip("argcomplete", reason="argcomplete is not installed")
    variables = {
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(tmp_path / "answer"),
        "_ARGCOMPLETE_IFS": "\n",
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
    }
    code = "import sys; from job.start import main; sys.exit(main())"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=os.environ | variables, check=True)
    assert set((tmp_path / "answer").read_text().split("\n")) == expected


def test_without_argcomplete_nothing_happens(monkeypatch, capsys):
    monkeypatch.setenv("_ARGCOMPLETE", "1")
    monkeypatch.setitem(sys.modules, "argcomplete", None)
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out.startswith("kmeans-job ")


def test_an_option_of_another_command_is_refused(tmp_path):
    (path := tmp_path / "options.yaml").write_text("verbose: true\n")
    with pytest.raises(UserError, match="verbose: no option of this command"):
        parsed("report", "--config", str(path))
