"""Every command in README.md and docs/ runs as it is written, in a folder with inputs of its names.

A fence says what its block is: `sh` and `python` run, in the order of the page; `sh parse` needs
another machine, so its flags are checked and nothing else; `sh make` is what CI runs; `sh no-run`
belongs to other programs.
"""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import sets
from jobs import ROOT

from job.cli import build_parser, main
from pipeline.transforms.runner import check_beam_flags

PAGES = ["README.md", *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md"))]
# Many commands, each of which starts a process: a minute and more.
LONG = {f"docs/{name}.md" for name in ("clustering", "engines", "estimator", "features")}
SLOW = [pytest.param(page, marks=pytest.mark.slow) for page in sorted(LONG)]
FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
KINDS = {"sh": ("", "parse", "make", "no-run"), "python": ("",)}


def blocks(page: str) -> list[tuple[str, str, str]]:
    """(language, kind, text) of the blocks of a page that are commands."""
    found = [
        (language, kind.strip(), text)
        for language, kind, text in FENCE.findall((ROOT / page).read_text(encoding="utf-8"))
    ]
    assert all(kind in KINDS[language] for language, kind, _ in found), found
    return found


def commands(text: str) -> list[list[str]]:
    """The command lines of a block, as words."""
    joined = re.sub(r"\\\n\s*", " ", text)
    return [shlex.split(line, comments=True) for line in joined.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    """A folder with small images under the names that the pages use."""
    folder = tmp_path_factory.mktemp("inputs")
    images, labels = sets.digits(60)
    sets.write_folder(folder, images, labels)
    (folder / "folder").rename(folder / "photos")
    (parquet := Path(sets.write_parquet(folder, images, labels))).rename(folder / "train-0.parquet")
    assert not parquet.exists()
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (120, 28, 28)).astype(np.uint8)
    digits = {"x_train": pixels[:90], "y_train": np.arange(90) % 10}
    digits |= {"x_test": pixels[90:], "y_test": np.arange(30) % 10}
    for name in ("mnist", "a", "b"):
        np.savez(folder / f"{name}.npz", **digits)
    np.save(folder / "vectors.npy", rng.normal(size=(200, 8)).astype(np.float32))
    return folder


@pytest.fixture(scope="module")
def encoder(inputs) -> None:
    """A Keras model beside the inputs."""
    import keras

    layers = [keras.Input((28, 28)), keras.layers.Flatten(), keras.layers.Dense(4)]
    keras.Sequential(layers).save(inputs / "encoder.keras")


def run(words: list[str]) -> None:
    """Runs one command line in the current folder."""
    if words[0] == "cmp":
        first, second = (Path(name).read_bytes() for name in words[1:])
        assert first == second
    else:
        assert words[0] == "kmeans-job", words
        known = build_parser().parse_known_args(words[1:])[0].parser.flags()
        always = [flag for flag in ("--quiet", "--overwrite") if flag in known]
        assert main([*words[1:], *always]) == 0


def check(words: list[str]) -> None:
    """Checks that every flag of a command line exists."""
    assert words[0] == "kmeans-job", words
    flags, others = build_parser().parse_known_args(words[1:])
    check_beam_flags(others, flags.parser.flags())


@pytest.mark.parametrize("page", [*sorted({*PAGES} - LONG), *SLOW])
def test_commands_run_as_they_are_written(page, cpus, inputs, tmp_path, monkeypatch, request):
    if "encoder.keras" in (ROOT / page).read_text(encoding="utf-8"):
        request.getfixturevalue("encoder")
    for name in inputs.iterdir():
        (tmp_path / name.name).symlink_to(name)
    monkeypatch.chdir(tmp_path)
    for language, kind, text in blocks(page):
        if language == "python":
            exec(compile(text, page, "exec"), {})
        elif kind == "":
            for words in commands(text):
                run(words)
        elif kind == "parse":
            for words in commands(text):
                check(words)


def test_flags_in_tables_exist():
    spans = re.findall(r"^\|.*`(kmeans-job [^`]+)`", (ROOT / "docs/formats.md").read_text(), re.M)
    assert len(spans) > 15
    for words in commands("\n".join(spans)):
        check(words)


def test_make_targets_are_those_of_the_makefile():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = [
        words[1]
        for page in PAGES
        for language, kind, text in blocks(page)
        if (language, kind) == ("sh", "make")
        for words in commands(text)
    ]
    assert named
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in named)


def test_extras_that_pages_install_exist():
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    named = {
        extra
        for page in [*PAGES, "CONTRIBUTING.md"]
        for extra in re.findall(r"pip install [^`\n]*\[(\w+)\]", (ROOT / page).read_text("utf-8"))
    }
    assert named >= {"gcp", "s3", "http"}
    assert all(f'"{extra}": ' in setup for extra in named), named


def test_links_lead_to_files():
    for page in [*PAGES, "CONTRIBUTING.md"]:
        text = (ROOT / page).read_text(encoding="utf-8")
        for link in re.findall(r"\]\((?!https?://)([\w./-]+)\)", text):
            assert ((ROOT / page).parent / link).exists(), f"{page}: {link}"


def test_recipes_name_what_is_there():
    text = " ".join((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split())
    recipes = text[text.index("## Adding to it") :]
    for path in re.findall(r"`([a-z_]+/[\w/.-]+)`", recipes):
        assert (ROOT / path).exists(), path
    named = re.findall(r"`(\w+)` \(`([\w/]+\.py)`", recipes)
    assert {name for name, _ in named} >= {"IMAGE_FORMATS", "INITS", "METRICS", "COLUMNS"}
    for name, path in named:
        assert re.search(rf"^(class )?{name}\b", (ROOT / path).read_text("utf-8"), re.MULTILINE), (
            f"{path} has no {name}"
        )


@pytest.fixture(scope="module")
def writer():
    """The script that writes what follows from the configs."""
    from importlib import util

    spec = util.spec_from_file_location("options_of_docs", ROOT / "docs" / "options.py")
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_types_of_keywords_are_those_of_the_code(writer):
    assert writer.KEYWORDS.read_text(encoding="utf-8") == writer.keywords(), (
        "run `python docs/options.py`"
    )


def test_tables_of_options_and_metrics_are_those_of_the_code(writer):
    marked = [page for page in PAGES if "<!-- options:" in (ROOT / page).read_text("utf-8")]
    assert len(marked) == len(writer.CONFIGS)
    assert any("<!-- metrics -->" in (ROOT / page).read_text("utf-8") for page in PAGES)
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        assert writer.with_tables(text) == text, f"{page}: run `python docs/options.py`"


def test_the_front_door_is_short_and_shows_a_picture():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 160
    assert any("docs/report.png" in line for line in lines)
    assert (ROOT / "docs" / "report.png").stat().st_size < 300_000
