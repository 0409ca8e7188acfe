"""The result of `assign`: brute force, the same bytes however it is made, and its readers."""

import csv
import dataclasses
import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from found import by_force, rounded
from jobs import ROOT
from models import save_model
from report_page import page_of
from sklearn.datasets import load_digits
from sklearn.metrics import adjusted_rand_score

import kmeans_job
from job.assign import assign
from job.cli import main
from job.config import ExportConfig
from job.export import export
from job.result.analysis import ResultAnalysis
from pipeline import storage, write_assignments
from pipeline.config import AssignConfig
from pipeline.errors import UserError
from pipeline.nearest import Model, NearestCentroid, read_model
from pipeline.shard import open_images
from pipeline.shards.block import Block

WRITTEN = {"centroids.npy", "examples.npz", "findings.json", "metrics.json", "report.html"}
NUM_FIT, NUM_STRANGE = 1_000, 6


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """Digits of the fit; then new ones, of which the first are drawn white on grey.

    Two pairs of the new ones have the same pixels, and lie in different pieces.
    """
    data = load_digits()
    pixels = np.rint(data.images * (255 / 16)).astype(np.uint8)
    new = slice(NUM_FIT, NUM_FIT + NUM_STRANGE)
    pixels[new] = 255 - pixels[new] // 2
    pixels[-1], pixels[-2] = pixels[1_200], pixels[1_210]
    return pixels, data.target


@pytest.fixture(scope="module")
def trained(digits, make_shards, fit):
    """A fit of the first digits."""
    pixels, labels = digits
    return fit(make_shards(pixels[:NUM_FIT], labels=labels[:NUM_FIT], num_shards=2), 10)


@pytest.fixture(scope="module")
def input_file(digits, new_folder) -> Path:
    pixels, labels = digits
    path = new_folder() / "new.npz"
    np.savez(path, x_train=pixels[NUM_FIT:], y_train=labels[NUM_FIT:])
    return path


def config(trained, spec, output, **options) -> AssignConfig:
    folder = getattr(trained, "folder", trained)
    return AssignConfig(model=str(folder), input=str(spec), output=str(output), **options)


@pytest.fixture(scope="module")
def assigned(trained, input_file, new_folder):
    """Makes the assignments of the new digits in so many pieces; their folder."""
    made: dict[int, Path] = {}

    def make(num_shards: int) -> Path:
        if num_shards not in made:
            made[num_shards] = new_folder() / "out"
            options = {"quiet": True, "num_shards": num_shards}
            assign(config(trained, input_file, made[num_shards], **options))
        return made[num_shards]

    return make


def read(folder: Path, name: str) -> dict:
    return json.loads((folder / name).read_text(encoding="utf-8"))


def result_bytes(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in WRITTEN}


# What it says.


def test_findings_are_those_of_brute_force(trained, digits, assigned):
    pixels, labels = (part[NUM_FIT:] for part in digits)
    ids = [f"train/{row:05d}" for row in range(len(pixels))]
    found = read(assigned(3), "findings.json")
    more = [
        {n: c.pop(n) for n in ("max_distance_of_fit", "num_farther")} for c in found["clusters"]
    ]
    farther = found.pop("farther")
    expected = by_force(ids, pixels.reshape(len(pixels), -1), labels, trained.centroids)
    assert rounded(found) == rounded(expected)
    assert found["num_duplicates"] == 2
    assert sum(part["num_farther"] for part in more) == len(farther) < 200


def test_images_farther_than_any_of_the_fit(trained, assigned):
    rows = kmeans_job.load_result(assigned(3)).assignments.to_pydict()
    limits = [trained.distances[trained.clusters == c].max() for c in range(10)]
    expected = sorted(
        (-distance / limits[cluster], name, cluster)
        for name, cluster, distance in zip(
            rows["id"], rows["cluster"], np.float32(rows["distance"]), strict=True
        )
        if distance > limits[cluster]
    )
    farther = read(assigned(3), "findings.json")["farther"]
    assert [(one["id"], one["cluster"]) for one in farther] == [each[1:] for each in expected]
    assert {one["id"] for one in farther[:NUM_STRANGE]} == {
        f"train/{row:05d}" for row in range(NUM_STRANGE)
    }
    assert all(one["farthest"] == limits[one["cluster"]] for one in farther)
    metrics = read(assigned(3), "metrics.json")
    assert metrics["num_farther"] == len(expected)
    assert metrics["drift"] == len(expected) / metrics["num_images"]


def test_metrics_are_those_of_the_labels_and_distances(trained, digits, assigned):
    labels = digits[1][NUM_FIT:]
    rows = kmeans_job.load_result(assigned(3)).assignments
    metrics = read(assigned(3), "metrics.json")
    clusters, distances = rows["cluster"].to_numpy(), rows["distance"].to_numpy().astype(float)
    assert metrics["ari"] == pytest.approx(adjusted_rand_score(labels, clusters))
    assert metrics["inertia"] == pytest.approx(np.square(distances).sum(), rel=1e-6)
    assert metrics["cluster_sizes"] == np.bincount(clusters, minlength=10).tolist()
    assert metrics["num_labelled"] == np.sum(metrics["contingency"]) == len(labels)
    assert metrics["model"]["folder"] == str(trained.folder)
    assert metrics.keys().isdisjoint({"seconds", "date", "iterations"})


@pytest.fixture(scope="module")
def own(trained, digits, new_folder) -> Path:
    """The assignments of the images of the fit, under the ids that it knew them by."""
    folder = new_folder()
    np.savez(folder / "own.npz", x_train=digits[0][:NUM_FIT], y_train=digits[1][:NUM_FIT])
    assign(config(trained, folder / "own.npz", folder / "out", quiet=True, num_shards=2))
    return folder / "out"


def test_the_images_of_the_fit_have_its_findings_and_no_drift(trained, own):
    found = read(own, "findings.json")
    assert found.pop("farther") == []
    for cluster in found["clusters"]:
        assert cluster.pop("max_distance_of_fit") == cluster["max_distance"]
        assert cluster.pop("num_farther") == 0
    assert found == read(trained.folder, "findings.json")


def test_the_images_of_the_fit_have_its_metrics_and_examples(trained, own):
    metrics = read(own, "metrics.json")
    assert metrics["drift"] == metrics["num_farther"] == 0
    for name, value in metrics.items():
        if name not in ("source", "model", "num_farther", "drift", "versions", "label_names"):
            expected = trained.metrics[name]
            assert value == (pytest.approx(expected) if isinstance(value, float) else expected)
    examples = [np.load(folder / "examples.npz") for folder in (own, trained.folder)]
    for kind in ("nearest", "farthest", "random", "sample"):
        ids = [file["ids"][file["kinds"] == kind].tolist() for file in examples]
        assert ids[0] == ids[1]


def test_every_finding_that_the_page_shows_has_its_pixels(digits, assigned):
    found = read(assigned(3), "findings.json")
    examples = np.load(assigned(3) / "examples.npz")
    rows = np.flatnonzero(examples["kinds"] == "finding")
    names = examples["ids"][rows].tolist()
    shown = [one["id"] for kind in ("outliers", "suspects", "farther") for one in found[kind][:24]]
    assert set(names) == {*shown, *(group[0] for group in found["duplicates"])}
    places = [NUM_FIT + int(name.removeprefix("train/")) for name in names]
    np.testing.assert_array_equal(examples["pixels"][rows], digits[0][places].reshape(-1, 64))


# The same bytes.


@pytest.mark.parametrize("num_shards", [1, 7])
def test_any_number_of_pieces_gives_the_same_bytes(assigned, num_shards):
    assert result_bytes(assigned(num_shards)) == result_bytes(assigned(3))


@pytest.mark.slow
def test_two_processes_give_the_same_bytes(trained, input_file, assigned, tmp_path):
    flags = ["--direct_running_mode", "multi_processing", "--direct_num_workers", "2"]
    options = {"model": trained.folder, "input": input_file, "output": tmp_path / "out"}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "job", "assign", *words, "--num-shards", "4", *flags]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert result_bytes(tmp_path / "out") == result_bytes(assigned(3))


def test_blocks_of_any_size_give_the_same_summary_in_any_order(trained, digits):
    analysis = ResultAnalysis.of(str(trained.folder))
    nearest = NearestCentroid(read_model(str(trained.folder)))
    pixels, labels = digits[0].reshape(-1, 64), digits[1]
    whole = Block([f"train/{i:05d}" for i in range(600)], labels[:600], pixels[:600])

    def examples_and_candidates(blocks) -> dict[str, np.ndarray]:
        summary = analysis.begin(600)
        for block in blocks:
            summary.add(nearest.measure(block))
        (merged := analysis.begin(600)).add_bytes(summary.to_bytes())
        rows = merged.candidates.rows()
        order = np.argsort(rows["ids"])
        return {name: v[order] for name, v in rows.items()} | merged.examples.columns()

    expected = examples_and_candidates([whole])
    for size in (1, 37):
        found = examples_and_candidates([*whole.split(size)][::-1])
        for name, values in expected.items():
            np.testing.assert_array_equal(found[name], values)


def test_the_analysis_travels_without_tensorflow(trained):
    code = "import sys, pickle; made = pickle.loads(bytes.fromhex(sys.argv[1])); made.begin(9)"
    data = pickle.dumps(ResultAnalysis.of(str(trained.folder))).hex()
    code += "; print(sorted({'tensorflow', 'apache_beam', 'sklearn'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code, data], cwd=ROOT, capture_output=True)
    assert done.stdout == b"[]\n", done.stderr


# Interruptions.


def test_a_run_after_one_that_died_before_the_manifest(trained, input_file, assigned, tmp_path):
    (out := tmp_path / "out").mkdir()
    for name in ("metrics.json", "report.html", f"findings.json.01ab{storage.TEMPORARY_SUFFIX}"):
        (out / name).write_text("half")
    (out / "analysis-00001-of-00009.summary").write_text("half")
    assign(config(trained, input_file, out, quiet=True, num_shards=2))
    assert {path.name for path in out.iterdir()} == {*WRITTEN, "manifest.json", "assignments"}
    assert result_bytes(out) == result_bytes(assigned(3))


def test_the_manifest_is_written_last_and_completing_again_does_no_harm(
    trained, input_file, tmp_path, monkeypatch
):
    names, out = [], tmp_path / "out"
    complete, write_once = ResultAnalysis.complete, storage.write_once

    def twice(analysis, written, summaries):
        summaries = list(summaries)
        complete(analysis, written, summaries)
        before = result_bytes(out)
        complete(analysis, written, summaries)  # as an engine does that has lost the answer
        assert result_bytes(out) == before

    def noting(path, data):
        names.append({each.name for each in out.iterdir()})
        write_once(path, data)

    monkeypatch.setattr(ResultAnalysis, "complete", twice)
    monkeypatch.setattr(storage, "write_once", noting)
    made = config(trained, input_file, out, quiet=True, num_shards=2)
    assign(made)
    assert names[-1] >= WRITTEN - {"metrics.json"}
    assert "manifest.json" not in names[-1]
    before, model = result_bytes(out), read_model(str(trained.folder))
    source, analysis = open_images(made), ResultAnalysis.of(model.folder)
    write_assignments.complete_assignments(source, model, [], str(out), 2, analysis=analysis)
    assert result_bytes(out) == before


def test_a_folder_without_a_manifest_is_no_result(assigned, tmp_path):
    (tmp_path / "metrics.json").write_bytes((assigned(3) / "metrics.json").read_bytes())
    with pytest.raises(UserError) as error:
        kmeans_job.load_result(tmp_path)
    message = "`kmeans-job assign` was interrupted there; run the same command again"
    assert str(error.value) == f"{tmp_path}: {message}"


# Its readers.


def test_load_result(trained, assigned):
    result = kmeans_job.load_result(assigned(3))
    np.testing.assert_array_equal(result.centroids, trained.centroids)
    assert result.history == []
    assert len(result.assignments) == result.metrics["num_images"] == 797


def test_the_page(assigned):
    page = page_of(assigned(3))
    metrics = read(assigned(3), "metrics.json")
    assert "Assigned to the centroids of " in page.text
    assert f"Drift5 %{metrics['num_farther']} farther than any image of the fit" in page.text
    assert f"{metrics['num_farther']} images, 5 % of the set, are farther from" in page.text
    assert "Farther than any image of the fit" in page.text
    for word in ("iteration", "Converged", "seed", "Time", "None"):
        assert word not in page.text


def test_the_page_is_the_same_when_it_is_made_again(assigned, capsys):
    before = result_bytes(assigned(3))
    assert main(["report", "--run", str(assigned(3))]) == 0
    assert capsys.readouterr().out == f"{assigned(3)}/report.html\n"
    assert result_bytes(assigned(3)) == before


def test_the_command_on_the_page_gives_the_same_again(assigned, trained, input_file, tmp_path):
    code = page_of(assigned(3)).code
    expected = f"kmeans-job assign --model {trained.folder} --input {input_file} --split train"
    assert code == f"{expected} --output DIR"
    assert main([*code.split()[1:-1], str(tmp_path / "out"), "--quiet"]) == 0
    assert result_bytes(tmp_path / "out") == result_bytes(assigned(3))


def test_the_terminal_says_the_drift_in_one_line(trained, input_file, assigned, tmp_path, capsys):
    words = ["--model", trained.folder, "--input", input_file, "--output", tmp_path / "out"]
    assert main(["assign", *map(str, words)]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    count = read(assigned(3), "metrics.json")["num_farther"]
    assert lines["drift"] == (
        f"{count} of 797 images (5 %) are farther from their centroid than any image of the fit"
    )
    assert lines["images"] == "797"
    assert lines["report"] == str(tmp_path / "out" / "report.html")


def test_lists_are_exported(assigned, tmp_path):
    for what in ("outliers", "duplicates", "representatives"):
        options = {"run": str(assigned(3)), "output": str(tmp_path / what), "what": what}
        assert export(ExportConfig(quiet=True, **options)) > 0
        with (tmp_path / what / f"{what}.csv").open(newline="") as file:
            assert "file" not in csv.DictReader(file).fieldnames


def test_pictures_of_all_are_not_to_be_had_without_the_files(assigned, tmp_path):
    with pytest.raises(UserError) as error:
        export(ExportConfig(run=str(assigned(3)), output=str(tmp_path / "out"), quiet=True))
    assert str(error.value) == (
        f"--run {assigned(3)}: images that were assigned, whose pixels are in no shards; give the "
        "folder of the images: --images FOLDER"
    )


def test_it_is_no_model(assigned, trained, input_file, tmp_path):
    with pytest.raises(UserError) as error:
        assign(config(assigned(3), input_file, tmp_path / "out", quiet=True))
    assert str(error.value) == (
        f"--model {assigned(3)}: images that were assigned, not a model; give the --model that "
        f"they were assigned with: {trained.folder}"
    )


# Other sets.


def test_without_labels_metrics_of_labels_are_null(trained, digits, tmp_path):
    np.save(tmp_path / "new.npy", digits[0][:30])
    assign(config(trained, tmp_path / "new.npy", tmp_path / "out", quiet=True))
    metrics = read(tmp_path / "out", "metrics.json")
    for name in ("purity", "nmi", "ari", "accuracy", "contingency", "label_names"):
        assert metrics[name] is None
    assert metrics["inertia"] > 0
    assert read(tmp_path / "out", "findings.json")["suspects"] == []


def test_a_model_of_an_older_version_has_no_drift(digits, tmp_path, capsys):
    model = save_model(tmp_path / "model", np.random.default_rng(0).random((70, 64)), (8, 8))
    np.save(tmp_path / "new.npy", digits[0][:2])
    flags = ["--model", model, "--input", tmp_path / "new.npy", "--output", tmp_path / "out"]
    assert main(["assign", *map(str, flags)]) == 0
    assert "drift       not known: the model has no findings.json" in capsys.readouterr().out
    assert read(tmp_path / "out", "metrics.json")["drift"] is None
    assert "farther" not in read(tmp_path / "out", "findings.json")
    assert "Drift–the model has no findings.json" in page_of(tmp_path / "out").text


def test_files_that_are_no_images_are_counted(trained, digits, tmp_path):
    from PIL import Image

    (tmp_path / "set" / "a").mkdir(parents=True)
    for row in range(3):
        Image.fromarray(digits[0][row]).save(tmp_path / "set" / "a" / f"{row}.png")
    (tmp_path / "set" / "a" / "notes.txt").write_text("no image")
    (tmp_path / "set" / "a" / "3.png").write_bytes(b"")
    options = {"quiet": True, "max_rejected": 0.5}
    manifest = assign(config(trained, tmp_path / "set", tmp_path / "out", **options))
    assert (manifest.num_images, manifest.num_rejected, manifest.num_skipped) == (3, 1, 1)
    found = read(tmp_path / "out", "findings.json")
    assert (found["rejected"], found["skipped"]) == (1, 1)
    assert read(tmp_path / "out", "manifest.json")["num_skipped"] == 1


def test_vectors_of_a_transform(make_shards, fit, digits, tmp_path):
    np.save(tmp_path / "digits.npy", digits[0][:300])
    kmeans_job.shard(tmp_path / "digits.npy", tmp_path / "shards", transform="pca:5")
    model = fit(str(tmp_path / "shards"), 4)
    for pieces in (1, 3):
        output = tmp_path / f"out{pieces}"
        options = {"quiet": True, "num_shards": pieces}
        assign(config(model, tmp_path / "digits.npy", output, **options))
    assert result_bytes(tmp_path / "out1") == result_bytes(tmp_path / "out3")
    assert (tmp_path / "out1" / "transform.npz").read_bytes() == (
        tmp_path / "shards" / "transform.npz"
    ).read_bytes()
    assert read(tmp_path / "out1", "metrics.json")["drift"] == 0
    found = read(tmp_path / "out1", "findings.json")
    assert found["outliers"] == read(model.folder, "findings.json")["outliers"]


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_the_second_nearest_centroid(dtype):
    random = np.random.default_rng(1)
    images = random.integers(0, 256, (200, 12)).astype(dtype)
    scale = 255 if dtype == "uint8" else 1
    centroids = (images[:7] / scale).astype(np.float32)
    nearest = NearestCentroid(Model("", centroids, (12,), dtype))
    block = Block([str(i) for i in range(200)], None, images)
    found, expected = nearest.measure(block), nearest(block)
    np.testing.assert_array_equal(found.assigned.clusters, expected.clusters)
    every = np.square(images[:, None] / scale - centroids.astype(float)).sum(axis=2)
    second = np.sort(every, axis=1)[:, 1]
    np.testing.assert_allclose(found.second_squared_distances, second, rtol=1e-9)
    one = NearestCentroid(Model("", centroids[:1], (12,), dtype)).measure(block)
    np.testing.assert_array_equal(one.second_squared_distances, one.assigned.squared_distances)


def test_an_analysis_is_small(trained):
    analysis = ResultAnalysis.of(str(trained.folder))
    assert dataclasses.astuple(analysis)[:2] == (10, 0)
    assert len(pickle.dumps(analysis)) < 1_000
