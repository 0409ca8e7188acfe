"""The page of a sweep, from what sweep.json says."""

import pytest
import result_folder
from report_page import Page

from job import report, sweep
from job.config import FitConfig
from job.report.sweep import advice
from job.result.metrics import METRICS

KS = (4, 8, 10)


def said(folder, labelled: bool = True) -> dict:
    """What sweep.json says of digits."""
    results = [result_folder.digits(folder / f"k={k}", k, labelled) for k in KS]
    return sweep.compare(FitConfig("my shards", str(folder), 10), results)


def test_every_metric_that_is_shown_over_k_has_a_column_and_a_chart(tmp_path):
    values = said(tmp_path)
    page = Page(report.build_sweep_page(values))
    shown = [metric for metric in METRICS if metric.over_k]
    assert page.rows[0] == ["k", *(metric.title for metric in shown), "Iterations", "Time"]
    assert len(page.all("figure", "chart")) == len(shown)
    assert [row[0].split()[0] for row in page.rows[1:]] == [str(k) for k in KS]
    assert all(metric.over_k in page.text for metric in shown)


def test_an_unlabelled_set_has_no_label_metric(tmp_path):
    page = Page(report.build_sweep_page(said(tmp_path, labelled=False)))
    assert page.rows[0][1:4] == ["Inertia", "Simplified silhouette", "Davies-Bouldin"]
    assert "Purity" not in page.text


def test_it_says_how_many_images_have_a_label_where_some_have_none(tmp_path):
    values = said(tmp_path)
    assert values["num_labelled"] == 1797
    assert "have a label" not in Page(report.build_sweep_page(values)).text
    page = Page(report.build_sweep_page({**values, "num_labelled": 1700}))
    assert "1,700 of 1,797 images have a label" in page.text


@pytest.mark.parametrize("elbow", [8, None])
def test_the_elbow_is_marked(tmp_path, elbow):
    page = Page(report.build_sweep_page({**said(tmp_path), "elbow": elbow}))
    assert len(page.all("circle", "marked")) == (elbow is not None)


def test_the_command_gives_every_k(tmp_path):
    page = Page(report.build_sweep_page(said(tmp_path)))
    assert "--k 4,8,10" in page.code
    assert "--shards 'my shards'" in page.code


def test_the_page_is_published_and_its_path_is_told(tmp_path):
    values = said(tmp_path)
    path = report.write_sweep_page(str(tmp_path), values)
    assert path == str(tmp_path / "sweep.html")
    assert (tmp_path / "sweep.html").read_text(encoding="utf-8") == report.build_sweep_page(values)


def test_the_advice_names_the_best_k_of_each_measure_and_whether_they_agree():
    fits = [
        {"k": 2, "simplified_silhouette": 0.2, "davies_bouldin": 1.0},
        {"k": 1_000, "simplified_silhouette": 0.4, "davies_bouldin": 2.0},
    ]
    apart, agree = advice({"fits": fits, "elbow": None})
    assert "apart most at k = 1,000 (silhouette 0.4000)" in apart
    assert "least at k = 2 (Davies-Bouldin 1.000)" in apart
    assert agree == "They do not agree: compare the reports of k = 2, 1,000."
    fits[0]["davies_bouldin"] = 3.0
    *_, agree = advice({"fits": fits, "elbow": 1_000})
    assert agree == "All measures point to k = 1,000: look at its report first."
    assert advice({"fits": fits[:1], "elbow": None}) == []
