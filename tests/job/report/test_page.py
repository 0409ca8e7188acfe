"""The report without a browser: what it says, what it escapes, how large it gets."""

import base64
import hashlib
import json
import re
import shlex

import numpy as np
import pytest
import result_folder
from report_page import decoded, page_of

from job import report
from job.report.page import command
from job.result.examples import EXAMPLES_SHOWN
from pipeline.errors import UserError

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
MIB = 1 << 20


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A result of digits: its folder, what metrics.json says, and the page."""
    folder = tmp_path_factory.mktemp("digits")
    metrics = result_folder.digits(folder)
    return folder, metrics, page_of(folder)


def test_the_head_names_the_figures(digits):
    _, metrics, page = digits
    assert "10 clusters of 1,797 images" in page.text
    for name in ("purity", "purity_weighted", "nmi", "ari"):
        assert f"{metrics[name]:.4f}" in page.text
    assert f"{metrics['inertia']:,.0f}" in page.text
    assert "Time3.8 s" in page.text
    assert "Converged after 8 iterations, started by k-means++ with seed 0." in page.text


def test_the_links_to_sections_are_in_the_order_of_the_sections(digits):
    _, _, page = digits
    sections = [f"#{one['id']}" for one in page.all("section") if "id" in one]
    first, *links = [one["href"] for one in page.all("a") if one.get("href") in sections]
    assert first == "#clusters"  # the one that skips what comes before
    number = len(set(links))
    assert number >= 6
    assert links[:number] == [section for section in sections if section in links]


def test_more_clusters_than_a_sentence_names_are_counted(tmp_path):
    result_folder.digits(tmp_path, 100)
    many = [item for item in page_of(tmp_path).items if re.match("1[1-9] clusters are", item)]
    assert many
    for item in many:
        assert re.search(r": (\d+, ){9}\d+ and \d more \(together", item)


def test_title_and_foot_say_what_was_clustered_when_and_by_what(tmp_path):
    source = {"input": ["/data/holiday photos/", "more"], "split": "train"}
    result_folder.digits(tmp_path, source=source, date="2026-11-26T17:05:00+00:00")
    text = page_of(tmp_path).text
    assert "10 clusters of 1,797 images · holiday photos and 1 more" in text
    assert "K-means report · holiday photos and 1 more · 26 November 2026" in text
    assert "by kmeans-job 0.1.0 from holiday photos and 1 more on 26 November 2026." in text
    assert "7,188 images/s" in text


def test_vectors_are_numbers_and_not_pixels(tmp_path):
    result_folder.embeddings(tmp_path)
    assert "4 clusters of 200 images of 100 numbers" in page_of(tmp_path).text


@pytest.mark.parametrize(("num_clusters", "shown"), [(6, True), (14, True), (20, False)])
def test_accuracy_is_left_out_where_most_clusters_have_no_label(tmp_path, num_clusters, shown):
    result_folder.digits(tmp_path, num_clusters)
    assert ("Accuracy" in page_of(tmp_path).text) == shown


def test_a_fit_that_stopped_early_says_so(tmp_path):
    result_folder.digits(tmp_path, converged=False, restarts=3)
    text = page_of(tmp_path).text
    assert "Not converged: stopped after 8 iterations" in text
    assert "the best of 3 restarts" in text


def test_every_cluster_shows_its_members_from_near_to_far(digits):
    folder, metrics, page = digits
    examples = np.load(folder / "examples.npz")
    by_id = dict(zip(examples["ids"], examples["labels"], strict=True))
    shown = iter(page.all("img", "member"))
    for cluster in range(10):
        commonest = np.argmax(metrics["contingency"][cluster])
        for kind, count in EXAMPLES_SHOWN.items():
            members = [next(shown) for _ in range(count)]
            rows = (examples["clusters"] == cluster) & (examples["kinds"] == kind)
            names = [member["alt"].split(", ")[0] for member in members]
            assert sorted(names) == sorted(examples["ids"][rows])
            distances = [float(member["title"].split(" · ")[2]) for member in members]
            assert kind == "random" or distances == sorted(distances, reverse=kind == "farthest")
            for name, member in zip(names, members, strict=True):
                assert member["alt"] == f"{name}, {by_id[name]}"
                assert ("odd" in member["class"]) == (by_id[name] != commonest)
    assert next(shown, None) is None


def test_pictures_are_the_pixels_and_the_centroids(digits):
    folder, _, page = digits
    examples = np.load(folder / "examples.npz")
    by_id = dict(zip(examples["ids"], examples["pixels"], strict=True))
    for member in page.all("img", "member"):
        expected = by_id[member["alt"].split(", ")[0]].reshape(8, 8)
        np.testing.assert_array_equal(decoded(member["src"]), expected)
    centroids = np.load(folder / "centroids.npy")
    for picture in page.all("img", "centroid"):
        cluster = int(picture["alt"].split()[-1])
        expected = np.rint(centroids[cluster] * 255).reshape(8, 8)
        np.testing.assert_array_equal(decoded(picture["src"]), expected)


def test_the_most_similar_cluster_has_the_nearest_centroid(digits):
    folder, _, page = digits
    centroids = np.load(folder / "centroids.npy").astype(float)
    between = np.linalg.norm(centroids[:, None] - centroids, axis=2)
    np.fill_diagonal(between, np.inf)
    rows = [attributes for attributes in page.all("tr") if "data-cluster" in attributes]
    assert [int(row["data-similar"]) for row in rows] == between.argmin(axis=1).tolist()
    one, other = sorted(map(int, np.unravel_index(between.argmin(), between.shape)))
    assert f"Closest to each other: {one} and {other} ({between.min():#.3g})" in page.text


def test_an_unlabelled_set_does_not_mention_labels(tmp_path):
    result_folder.digits(tmp_path, labelled=False)
    page = page_of(tmp_path)
    said = page.text + " ".join(
        f"{a.get('alt')} {a.get('title')} {a.get('aria-label')}" for _, a in page.tags
    )
    for word in ("label", "purity", "nmi", "accuracy", "majority", "common", "none", "-1"):
        assert word not in re.sub("None|k-means", "", said).lower()
    assert len(page.all("img", "member")) == 350


def test_the_page_says_what_counts_by_weights(tmp_path):
    result_folder.digits(tmp_path)
    assert "weight" not in re.sub("weighted", "", page_of(tmp_path).text)
    weights = {"weight_column": "w<b>", "cluster_weights": [2.0] * 9 + [7.0]}
    result_folder.digits(tmp_path, inertia=50.0, **weights)
    text = page_of(tmp_path).text
    assert "2.000 per unit of weight" in text
    assert "Images count by their weights, from w<b>, in centroids and inertia" in text


def test_the_page_says_how_many_images_have_a_label(tmp_path):
    said = "images have a label; shares and metrics of labels are over these"
    table = result_folder.digits(tmp_path)["contingency"]
    assert said not in page_of(tmp_path).text
    path = tmp_path / "metrics.json"
    facts = json.loads(path.read_text(encoding="utf-8"))
    total = sum(map(sum, table))
    facts["contingency"][0] = [0] * len(table[0])
    path.write_text(json.dumps(facts), encoding="utf-8")
    assert f"{total - sum(table[0]):,} of {total:,} {said}" in page_of(tmp_path).text


def test_one_cluster_has_no_neighbour_and_no_map(tmp_path):
    result_folder.digits(tmp_path, 1)
    page = page_of(tmp_path)
    assert "1 cluster of 1,797 images" in page.text
    assert "Most similar" not in page.text
    assert not page.all("svg", "map")
    assert len(page.all("article")) == 1


@pytest.mark.slow
def test_a_hundred_clusters_of_mnist_stay_below_five_megabytes(tmp_path):
    result_folder.mnist(tmp_path, 100)
    source = report.build_report(str(tmp_path))
    assert len(source.encode()) < 3 * MIB
    assert source.count('<img class="member') == 3_500


@pytest.mark.parametrize("channels", [1, 3])
def test_a_hundred_clusters_of_large_noise_stay_small(tmp_path, channels):
    shape = (64, 64, channels)
    pixels = np.random.default_rng(0).integers(0, 256, (700, np.prod(shape)), np.uint8)
    result_folder.write_result(tmp_path, pixels, shape, np.arange(700) % 100)
    assert len(report.build_report(str(tmp_path)).encode()) < 5 * MIB


def test_many_labels_make_a_picture_of_the_heat_map(tmp_path):
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (2_000, 4), np.uint8)
    labels = np.arange(2_000) % 500
    result_folder.write_result(tmp_path, pixels, (2, 2), np.arange(2_000) % 40, labels)
    page = page_of(tmp_path)
    (picture,) = page.all("img", "heat-picture")
    assert decoded(picture["src"]).shape == (40, 500)
    assert not page.all("table", "heat")


def test_colour_images_and_their_centroids_have_their_colours(tmp_path):
    result_folder.colour(tmp_path)
    page = page_of(tmp_path)
    centroids = np.load(tmp_path / "centroids.npy").reshape(3, 12, 12, 3)
    for cluster, picture in enumerate(page.all("img", "centroid")[:3]):
        shown = decoded(picture["src"]).astype(float)
        assert np.abs(shown - centroids[cluster] * 255).mean() < 8
    assert len(page.all("img", "member")) == 105


def test_embeddings_are_lines_and_ids(tmp_path):
    result_folder.embeddings(tmp_path)
    page = page_of(tmp_path)
    assert not page.all("img")
    assert len(page.all("svg", "spark")) == 3 * 4
    members = page.all("li", "member")
    assert len(members) == 4 * 35
    examples = np.load(tmp_path / "examples.npz")
    assert all(name in page.text for name in examples["ids"])


def test_names_ids_and_options_are_inert(tmp_path):
    pixels = np.tile(np.arange(12, dtype=np.uint8)[:, None] * 20, (1, 4))
    result_folder.write_result(
        tmp_path,
        pixels,
        (2, 2),
        np.arange(12) // 6,
        np.arange(12) % 2,
        ids=[f"{i}{HOSTILE}" for i in range(12)],
        label_names=[HOSTILE, "b"],
        init=HOSTILE,
        fingerprint=HOSTILE,
        versions={HOSTILE: HOSTILE},
        config={"output": HOSTILE, "init": HOSTILE},
    )
    page = page_of(tmp_path)
    assert len(page.all("script")) == 1
    assert not [name for _, attributes in page.tags for name in attributes if name[:2] == "on"]
    assert all(image["src"].startswith("data:image/") for image in page.all("img"))
    assert HOSTILE in page.text
    assert any(image["alt"].startswith(f"3{HOSTILE}") for image in page.all("img", "member"))


def test_a_page_lets_nothing_in_and_fetches_nothing(digits):
    folder, _, page = digits
    for _, attributes in page.tags:
        for name in ("src", "href", "action", "srcset", "data"):
            assert (attributes.get(name) or "#").startswith(("#", "data:"))
    source = report.build_report(str(folder))
    assert "http://" not in source
    assert "https://" not in source
    assert "url(" not in source.replace("url(#disc)", "")
    script = re.search(r"<script>(.*?)</script>", source, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = [a["content"] for a in page.all("meta") if a.get("http-equiv")]
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{digest}'" in policy


def test_over_long_ids_and_control_characters_are_cut(tmp_path):
    ids = ["a" * 50_000 + str(i) for i in range(8)]
    ids[3] = "line\nbreak\u202eright\x00"
    pixels = np.tile(np.arange(8, dtype=np.uint8)[:, None], (1, 4))
    result_folder.write_result(tmp_path, pixels, (2, 2), np.arange(8) // 4, ids=ids)
    source = report.build_report(str(tmp_path))
    assert len(source) < 100_000
    assert "line\ufffdbreak\ufffdright" in source
    assert "\u202e" not in source


def test_anchors_lead_somewhere_and_ids_are_unique(digits):
    _, _, page = digits
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = {a["href"][1:] for a in page.all("a") if "href" in a}
    assert links <= set(ids)
    named = {a[name] for _, a in page.tags for name in ("aria-labelledby", "for") if name in a}
    assert named <= set(ids)


def test_pictures_have_words_and_tables_their_headings(digits):
    _, _, page = digits
    assert all(image.get("alt") for image in page.all("img"))
    assert all(a.get("role") in ("img", "group") for a in page.all("svg"))
    assert all(a.get("scope") in ("col", "row") for a in page.all("th"))
    assert [a["aria-sort"] for a in page.all("th") if "aria-sort" in a].count("ascending") == 1


def test_of_several_restarts_the_published_one_is_shown(tmp_path):
    history = [
        {
            "restart": restart,
            "iteration": i + 1,
            "inertia": 1000.0 * (restart + 1) - i,
            "changed": i,
        }
        for restart in range(3)
        for i in range(2)
    ]
    result_folder.digits(tmp_path, history=history, restart=1, restarts=3)
    rows = [row for row in page_of(tmp_path).rows if len(row) == 6]
    assert [row[:3] for row in rows[1:]] == [["1", "2,000.0000", "0"], ["2", "1,999.0000", "1"]]


def test_the_command_gives_the_options_back():
    config = result_folder.CONFIG | {"output": "my run's folder", "init": "k-means||", "tol": 1e-4}
    words = shlex.split(command(config))
    assert words[:2] == ["kmeans-job", "fit"]
    given = dict(zip(words[2::2], words[3::2], strict=True))
    assert given["--output"] == "my run's folder"
    assert given["--init"] == "k-means||"
    assert float(given["--tol"]) == 1e-4
    assert given["--max-iterations"] == "300"
    assert "--replicas" not in given


def test_the_command_bears_missing_and_unknown_options(tmp_path):
    assert command({}) == "kmeans-job fit"
    result_folder.digits(tmp_path, config={"k": 10, "colour": "green"})
    page = page_of(tmp_path)
    assert page.code == "kmeans-job fit --k 10"
    assert "colour green" in page.text


def test_write_publishes_what_build_returns(digits):
    folder, _, _ = digits
    report.write_report(str(folder))
    assert (folder / "report.html").read_text(encoding="utf-8") == report.build_report(str(folder))


@pytest.mark.parametrize("name", ["metrics.json", "history.jsonl", "centroids.npy", "examples.npz"])
@pytest.mark.parametrize("damage", ["missing", "empty text"])
def test_a_folder_that_is_no_result_is_the_users_error(tmp_path, name, damage):
    result_folder.embeddings(tmp_path)
    (tmp_path / name).unlink()
    if damage == "empty text":
        (tmp_path / name).write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match=re.escape(name)):
        report.write_report(str(tmp_path))
    assert not (tmp_path / "report.html").exists()


def test_float_images_with_a_shape_are_pictures(tmp_path):
    random = np.random.default_rng(0)
    pixels = random.normal(size=(60, 16)).astype(np.float32)
    result_folder.write_result(tmp_path, pixels, (4, 4), np.arange(60) % 3)
    members = page_of(tmp_path).all("img", "member")
    shown = np.array([decoded(member["src"]) for member in members])
    assert shown.min() == 0
    assert shown.max() == 255


def test_metrics_and_run_facts_are_all_there(digits):
    _, metrics, page = digits
    values = {row[0]: row[1] for row in page.rows if len(row) == 3}
    for name in ("homogeneity", "completeness", "accuracy"):
        assert values[name.capitalize()] == f"{metrics[name]:.4f}"
    assert values["Davies-Bouldin"] == "1.500"
    assert values["Simplified silhouette"] == "0.2500"
    for fact in (metrics["fingerprint"], f"numpy {np.__version__}", "fit 2.0 s", "seed 0"):
        assert fact in page.text
