"""What the terminal shows of a fit and of a sweep."""

import result_folder

from job.result.summary import fit_summary, sweep_summary


def test_a_fit_is_ten_lines_at_most(tmp_path):
    metrics = result_folder.digits(tmp_path)
    lines = fit_summary(metrics, "out").splitlines()
    assert len(lines) == 10
    said = dict(line.split(maxsplit=1) for line in lines)
    assert said["images"] == "1,797 of 64 pixels"
    assert said["iterations"] == "8, converged, 7,188 images/s"
    assert said["inertia"] == f"{metrics['inertia']:.10g}"
    names = {"purity": "purity", "weighted": "purity_weighted", "NMI": "nmi", "ARI": "ari"}
    for title, name in names.items():
        assert said[title] == f"{metrics[name]:.4f}"
    assert said["report"] == "out/report.html"


def test_vectors_have_numbers_and_restarts_no_rate(tmp_path):
    text = fit_summary(result_folder.embeddings(tmp_path, restarts=3), "out")
    assert "200 of 100 numbers" in text
    assert "images/s" not in text


def test_an_unlabelled_set_shows_no_label_metric(tmp_path):
    metrics = result_folder.digits(tmp_path, labelled=False, converged=False)
    lines = fit_summary(metrics, "out").splitlines()
    assert [line.split()[0] for line in lines] == [
        *("images", "clusters", "iterations", "inertia", "report")
    ]
    assert "stopped before convergence" in lines[2]


def test_it_says_how_many_images_have_a_label_where_some_have_none(tmp_path):
    metrics = result_folder.digits(tmp_path, num_labelled=1700)
    lines = fit_summary(metrics, "out").splitlines()
    assert lines[0] == "images      1,797 of 64 pixels; 1,700 of them have a label"
    assert sweep_summary(
        {"fits": [metrics | {"k": 10}], "elbow": None, **metrics}, "o"
    ).splitlines()[2:] == ["labels  1,700 of 1,797 images have one", "report  o/sweep.html"]


def test_a_sweep_is_a_table():
    fit = {"k": 1, "inertia": 31.5, "simplified_silhouette": None, "purity": 0.5, "nmi": 0.0}
    fits = [fit, {**fit, "k": 2, "inertia": 20.0, "simplified_silhouette": 0.25, "nmi": 0.75}]
    text = sweep_summary({"num_images": 9, "fits": fits, "elbow": 2}, "out")
    rows = [line.split() for line in text.splitlines()]
    assert rows[0] == ["k", "inertia", "silhouette", "purity", "NMI"]
    assert rows[1] == ["1", "31.5", "–", "0.5000", "0.0000"]
    assert rows[2] == ["2", "20", "0.2500", "0.5000", "0.7500"]
    assert text.splitlines()[3:] == ["elbow   k = 2 (Kneedle)", "report  out/sweep.html"]
