"""Several k at once: the bits of their own fits, what compares them, what is refused."""

import dataclasses
import itertools
import json
from pathlib import Path

import jobs
import numpy as np
import published
import pytest
from report_page import Page
from sklearn.datasets import load_digits

from job import fit as fitting
from job import report, sweep
from job.cli import main
from job.config import FitConfig, parse_ks
from job.kmeans import kmeans_plus_plus
from job.result import publish
from job.result.summary import sweep_summary
from pipeline.errors import JobError, UserError

NUM_IMAGES, KS = 240, (3, 7, 5)
LABEL_WORDS = ("Purity", "NMI", "label")


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.rint(load_digits().data[:NUM_IMAGES] * (255 / 16)).astype(np.uint8)


@pytest.fixture(scope="module")
def shards(make_shards, images) -> str:
    labels = load_digits().target[:NUM_IMAGES].astype(np.int64)
    return make_shards(images, labels=labels, num_shards=3)


@pytest.fixture
def config(shards, cpus, tmp_path) -> FitConfig:
    return FitConfig(shards, str(tmp_path / "out"), max(KS), algorithm="lloyd")


@pytest.fixture(scope="module")
def swept(shards, cpus, new_folder) -> Path:
    """A finished sweep's folder."""
    folder = new_folder()
    sweep.fit_each(FitConfig(shards, str(folder), max(KS), algorithm="lloyd"), KS)
    return folder


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "options",
    [
        {},
        pytest.param({"init": "random"}, marks=SLOW),
        pytest.param({"init": "k-means||"}, marks=SLOW),
        pytest.param({"algorithm": "hamerly", "restarts": 2, "replicas": 2}, marks=SLOW),
        pytest.param({"algorithm": "hamerly", "memory": "stream", "seed": 5}, marks=SLOW),
    ],
    ids=str,
)
def test_each_equals_its_own_fit(fit, shards, new_folder, options):
    options = {"algorithm": "lloyd", **options}
    folder = new_folder()
    sweep.fit_each(FitConfig(shards, str(folder), max(KS), **options), KS)
    for k in KS:
        together, alone = published.read(folder / f"k={k}"), fit(shards, k, **options)
        assert together.bits() == alone.bits()
        for name in ("davies_bouldin", "simplified_silhouette", "purity"):
            assert together.metrics[name] == alone.metrics[name]


def test_images_are_loaded_and_drawn_once(config, monkeypatch):
    seeded, loads = [], []
    seed, load = kmeans_plus_plus.initial_images, fitting.ResidentImages._load

    def counted(images, seeding):
        seeded.append((seeding.k, len(seeding.chosen)))
        return seed(images, seeding)

    monkeypatch.setattr(kmeans_plus_plus, "initial_images", counted)
    monkeypatch.setattr(
        fitting.ResidentImages, "_load", lambda *args: (loads.append(1), load(*args))[1]
    )
    sweep.fit_each(dataclasses.replace(config, restarts=2, max_iterations=1), (3, 7))
    assert seeded == [(7, 0), (7, 0), (3, 3), (3, 3)]
    assert len(loads) == 1


# What is written.


def test_a_sweep_compares_what_its_results_say(swept):
    assert {path.name for path in swept.iterdir()} == {
        *("k=3", "k=5", "k=7", "sweep.html", "sweep.json")
    }
    said = json.loads((swept / "sweep.json").read_text())
    assert [fit["k"] for fit in said["fits"]] == said["config"]["k"] == [3, 5, 7]
    for fit in said["fits"]:
        metrics = json.loads((swept / fit["folder"] / "metrics.json").read_text())
        assert metrics["num_clusters"] == fit["k"]
        for name in ("inertia", "davies_bouldin", "simplified_silhouette", "purity", "nmi"):
            assert fit[name] == metrics[name]
    assert said["elbow"] == sweep.elbow([3, 5, 7], [fit["inertia"] for fit in said["fits"]])
    assert said["elbow_rule"].startswith("Kneedle")


@pytest.mark.parametrize(
    ("ks", "inertias", "elbow"),
    [
        ([1, 2, 3, 4], [100, 10, 9, 8], 2),
        ([2, 4, 8, 16], [100, 60, 20, 10], 8),
        ([1, 2, 3], [30, 20, 10], None),  # a straight line
        ([1, 2, 3], [30, 28, 10], None),  # bends the other way
        ([1, 2], [30, 10], None),
        ([1, 2, 3], [10, 5, 10], None),
    ],
)
def test_the_elbow_by_hand(ks, inertias, elbow):
    assert sweep.elbow(ks, inertias) == elbow


def test_the_elbow_does_not_depend_on_units():
    ks, inertias = [2, 3, 5, 8, 13], np.array([50.0, 31, 20, 17, 15])
    assert sweep.elbow(ks, inertias) == sweep.elbow([k * 10 for k in ks], inertias * 1e9) / 10


def test_the_summary_has_a_line_for_each_k(swept):
    said = json.loads((swept / "sweep.json").read_text())
    lines = sweep_summary(said, "out").splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["k", "3", "5", "7"]
    assert lines[-1] == "report  out/sweep.html"


# The page.


def test_the_page_leads_to_every_report(swept):
    page = Page((swept / "sweep.html").read_text())
    links = [tag["href"] for tag in page.all("a")]
    assert links == ["k=3/report.html", "k=5/report.html", "k=7/report.html"]
    assert all((swept / link).exists() for link in links)
    assert page.rows[0][:2] == ["k", "Inertia"]
    assert {"Purity", "NMI"} <= set(page.rows[0])
    assert "Kneedle" in page.text
    assert "--k 3,5,7" in page.code
    assert len(page.all("circle")) == 3 * len(page.all("figure"))


def test_the_page_is_rebuilt(swept, capsys):
    page = (path := swept / "sweep.html").read_bytes()
    path.unlink()
    assert main(["report", "--run", str(swept)]) == 0
    assert capsys.readouterr().out == f"{path}\n"
    assert path.read_bytes() == page


def test_the_page_marks_the_elbow(swept):
    said = json.loads((swept / "sweep.json").read_text())
    page = Page(report.build_sweep_page({**said, "elbow": 5}))
    assert [row[0] for row in page.rows] == ["k", "3", "5 (elbow)", "7"]
    assert len(page.all("circle", "marked")) == 1
    assert "k = 5" in page.text
    page = Page(report.build_sweep_page({**said, "elbow": None}))
    assert page.all("circle", "marked") == []
    assert "no elbow" in page.text


def test_an_unlabelled_set_shows_no_label_metric(make_shards, new_folder, images, cpus):
    folder = new_folder()
    config = FitConfig(make_shards(images), str(folder), 2, algorithm="lloyd", max_iterations=1)
    said = sweep.fit_each(config, (1, 2))
    page = Page((folder / "sweep.html").read_text())
    assert not [word for word in LABEL_WORDS if word in page.text]
    assert said["fits"][0]["simplified_silhouette"] is None
    assert "purity" not in sweep_summary(said, "out")


# Again, after a crash.


class Killed(Exception):
    pass


def test_what_is_finished_is_not_done_again(config, swept, monkeypatch):
    calls, write = itertools.count(), publish.write_shard_assignments

    def die(*args):
        if next(calls) == 4:  # in the second of three shards of the second k
            raise Killed
        write(*args)

    monkeypatch.setattr(publish, "write_shard_assignments", die)
    with pytest.raises(Killed):
        sweep.fit_each(config, KS)
    monkeypatch.undo()
    folder = Path(config.output)
    assert not (folder / "sweep.json").exists()
    written = (folder / "k=7" / "metrics.json").stat().st_mtime_ns
    with pytest.raises(UserError, match=r"k=7: of an unfinished sweep .* --seed \(0, now 1\)"):
        sweep.fit_each(dataclasses.replace(config, seed=1), KS)
    with pytest.raises(UserError, match="holds k=5 of an unfinished sweep"):
        sweep.fit_each(config, (3, 7))
    sweep.fit_each(config, KS)
    assert (folder / "k=7" / "metrics.json").stat().st_mtime_ns == written
    for k in KS:
        assert published.read(folder / f"k={k}").bits() == published.read(swept / f"k={k}").bits()


def test_one_of_several_workers_takes_its_own_finished_sweep_for_done(swept, monkeypatch):
    task = '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}'
    monkeypatch.setenv("TF_CONFIG", task)
    done = json.loads((swept / "sweep.json").read_text())
    config = FitConfig(**{**done["config"], "k": max(KS), "start_timeout_seconds": 0})
    assert sweep.fit_each(config, KS) == done
    with pytest.raises(JobError, match=r"worker 0 .a:1.: not there"):
        sweep.fit_each(config, (3, 7))


def test_overwrite_begins_anew(config):
    config = dataclasses.replace(config, max_iterations=1)
    sweep.fit_each(config, (1, 7))
    with pytest.raises(UserError, match="holds a sweep; add --overwrite"):
        sweep.fit_each(config, (1, 7))
    sweep.fit_each(dataclasses.replace(config, overwrite=True), (2, 3))
    assert {path.name for path in Path(config.output).iterdir()} == {
        *("k=2", "k=3", "sweep.html", "sweep.json")
    }


# What is refused.


def test_ks():
    assert parse_ks("8") == (8,)
    assert parse_ks("16,8,10") == (16, 8, 10)
    assert str(parse_ks("16,8,10")) == "16,8,10"


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ("8,,10", "'8,,10' is neither a number nor numbers with commas between, e.g. 8,10,16"),
        ("8,", "'8,' is neither a number"),
        ("8;10", "'8;10' is neither a number"),
        ("8,10,8", "'8,10,8' has 8 twice; give each number once"),
        ("0,8", "--k 0: must be at least 1"),
        ("2,-1", "--k -1: must be at least 1"),
        ("2,241", "--k 241: more clusters than the 240 images"),
        ("2,3 --init given.npy", "--init given.npy: a file holds the centroids of one k"),
    ],
)
def test_bad_lists_are_refused(shards, tmp_path, capsys, given, line):
    output = tmp_path / "out"
    status = main(["fit", "--shards", shards, "--output", str(output), "--k", *given.split()])
    assert status == 2
    assert line in capsys.readouterr().err
    assert not output.exists()


def test_a_sweep_and_a_fit_do_not_share_a_folder(config, swept, fit, shards):
    with pytest.raises(UserError, match=r"holds something else \(k=3\)"):
        fitting.fit(dataclasses.replace(config, output=str(swept), overwrite=True))
    alone = fit(shards, 2, max_iterations=1)
    with pytest.raises(UserError, match="holds something else"):
        sweep.fit_each(dataclasses.replace(config, output=str(alone.folder), overwrite=True), KS)


@pytest.mark.slow
def test_run_makes_shards_and_results_once(tmp_path):
    command = ["run", "--input", "digits", "--k", "2,4", "--max-iterations", "1", "--quiet"]
    assert main([*command, "--output", str(tmp_path)]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {
        *("shards", "k=2", "k=4", "sweep.html", "sweep.json")
    }
    assert main([*command, "--output", str(tmp_path)]) == 2
    assert main([*command, "--output", str(tmp_path), "--overwrite"]) == 0


@pytest.mark.slow
def test_two_workers_make_the_bits_of_one(shards, swept, tmp_path):
    options = ("--shards", shards, "--k", "3,7,5", "--algorithm", "lloyd")
    started = jobs.start_workers(tmp_path / "out", 2, *options)
    assert jobs.wait(*started) == [0, 0], jobs.errors_of(tmp_path / "out")
    for k in KS:
        assert jobs.outcome(tmp_path / "out" / f"k={k}") == jobs.outcome(swept / f"k={k}")
    assert (tmp_path / "out" / "sweep.json").exists()
