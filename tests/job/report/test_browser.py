"""The report in a real browser: headless Chromium, driven by selenium."""

import pytest
import result_folder

from job import report, sweep
from job.config import FitConfig
from job.report import page as result_page
from job.result.read import read_metrics

NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
HOSTILE = "</title></script><script>window.broken = 1</script>\"'><img src=x onerror=broken=2>"

pytestmark = pytest.mark.slow


def show(browser, folder) -> None:
    """Opens the report of a result; fails on any message of the browser's console."""
    report.write_report(str(folder))
    browser.get((folder / "report.html").as_uri())
    assert browser.get_log("browser") == []


def undecoded(browser) -> tuple[int, int]:
    """How many pictures there are, and how many of them did not decode."""
    return tuple(
        browser.execute_async_script(
            """
            const done = arguments[0];
            const pictures = [...document.querySelectorAll("img, image")].map((picture) => {
              const image = new Image();
              image.src = picture.src ?? picture.getAttribute("href");
              return image.decode().then(
                () => (picture.naturalWidth ?? image.naturalWidth) > 0, () => false);
            });
            Promise.all(pictures).then(
              (fine) => done([fine.length, fine.filter((one) => !one).length]));
            """
        )
    )


def in_rows(browser) -> list[int]:
    """Clusters in the order of the table, as far as they are shown."""
    rows = "[...document.querySelectorAll('#table tbody tr')].filter((row) => row.offsetParent)"
    return browser.execute_script(f"return {rows}.map((row) => Number(row.dataset.cluster))")


def in_cards(browser) -> list[int]:
    """Clusters in the order of the cards, as far as they are shown."""
    cards = "[...document.querySelectorAll('#cards article')].filter((card) => card.offsetParent)"
    return browser.execute_script(f"return {cards}.map((card) => Number(card.id.slice(8)))")


def header(browser, key: str):
    return browser.find_element("css selector", f"#table [data-key={key}]")


def find(browser, text: str) -> None:
    box = browser.find_element("id", "find")
    box.clear()
    box.send_keys(text)


@pytest.mark.parametrize(
    ("make", "pictures"),
    [
        (result_folder.digits, 10 * (5 + 35)),
        (lambda folder: result_folder.digits(folder, labelled=False), 10 * (5 + 35)),
        (lambda folder: result_folder.digits(folder, 1), 4 + 35),
        (lambda folder: result_folder.mnist(folder, 10), 10 * (5 + 35)),
        (lambda folder: result_folder.mnist(folder, 100), 30 * (2 + 35)),  # the first page
        (result_folder.colour, 3 * (5 + 35)),
        (result_folder.embeddings, 0),
    ],
    ids=["digits", "unlabelled", "k=1", "mnist k=10", "mnist k=100", "colour", "embeddings"],
)
def test_no_console_message_and_every_picture_decodes(browser, tmp_path, make, pictures):
    make(tmp_path)
    show(browser, tmp_path)
    assert undecoded(browser) == (pictures, 0)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_of_a_sweep(browser, tmp_path, theme):
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"features": [{"name": "prefers-color-scheme", "value": theme}]},
    )
    results = [result_folder.digits(tmp_path / f"k={k}", k) for k in (4, 8, 10)]
    config = FitConfig("shards", str(tmp_path), 10)
    report.write_sweep_page(str(tmp_path), sweep.compare(config, results))
    for k in (4, 8, 10):
        report.write_report(str(tmp_path / f"k={k}"))
    browser.get((tmp_path / "sweep.html").as_uri())
    assert browser.get_log("browser") == []
    dots = browser.find_elements("css selector", "circle")
    assert len(dots) == 3 * 5
    assert all(dot.is_displayed() for dot in dots)
    browser.find_element("link text", "8").click()
    assert browser.title.startswith("8 clusters of ")


def test_names_and_ids_cannot_run_or_fetch(browser, tmp_path):
    random_ids = [f"{i}{HOSTILE}" for i in range(1_797)]
    names = [f"{label}{HOSTILE}" for label in range(10)]
    result_folder.digits(tmp_path, ids=random_ids, label_names=names, init=HOSTILE)
    show(browser, tmp_path)
    assert browser.execute_script("return window.broken") is None
    assert browser.execute_script("return document.scripts.length") == 1
    assert undecoded(browser)[1] == 0


def test_what_is_injected_is_refused_by_the_policy(browser, tmp_path):
    result_folder.digits(tmp_path)
    show(browser, tmp_path)
    browser.execute_script(
        "const s = document.createElement('script'); s.textContent = 'window.broken = 1';"
        "document.body.append(s);"
    )
    assert browser.execute_script("return window.broken") is None
    assert "Content Security Policy" in browser.get_log("browser")[0]["message"]


@pytest.mark.parametrize("key", ["size", "share", "similar", "distance", "label"])
def test_a_click_sorts_the_table_and_the_cards_and_another_turns_them(browser, tmp_path, key):
    result_folder.digits(tmp_path)
    show(browser, tmp_path)
    rows = browser.find_elements("css selector", "#table tbody tr")
    values = {
        int(row.get_attribute("data-cluster")): float(row.get_attribute(f"data-{key}"))
        for row in rows
    }
    assert in_rows(browser) == in_cards(browser) == sorted(values)
    button = header(browser, key).find_element("tag name", "button")
    button.click()
    order = in_rows(browser)
    assert order == in_cards(browser) == sorted(values, key=lambda c: (values[c], c))
    assert header(browser, key).get_attribute("aria-sort") == "ascending"
    assert header(browser, "cluster").get_attribute("aria-sort") == "none"
    button.send_keys("\ue007")  # Enter
    assert [values[c] for c in in_cards(browser)] == sorted(values.values(), reverse=True)
    assert header(browser, key).get_attribute("aria-sort") == "descending"


def test_names_sort_as_words(browser, tmp_path):
    metrics = result_folder.digits(tmp_path, label_names=NAMES)
    show(browser, tmp_path)
    header(browser, "label").find_element("tag name", "button").click()
    majorities = [NAMES[counts.index(max(counts))] for counts in metrics["contingency"]]
    assert [majorities[c] for c in in_rows(browser)] == sorted(majorities)


def test_find_shows_a_cluster_a_label_or_an_id(browser, tmp_path):
    metrics = result_folder.digits(tmp_path, 14, label_names=NAMES)
    show(browser, tmp_path)
    find(browser, "1")
    assert in_rows(browser) == in_cards(browser) == [1]  # not 10 to 13
    find(browser, "ZERO")
    zeros = [c for c, counts in enumerate(metrics["contingency"]) if counts[0] == max(counts)]
    assert set(zeros) <= set(in_rows(browser))
    assert len(in_rows(browser)) < 14
    find(browser, " ")
    member = browser.find_element("css selector", "#cluster-7 .member").get_attribute("alt")
    find(browser, member.split(",")[0])
    assert 7 in in_rows(browser)
    find(browser, "no such thing")
    assert in_rows(browser) == in_cards(browser) == []
    assert browser.find_element("id", "none").is_displayed()
    assert browser.find_element("id", "count").text.startswith("0 of 14 shown; 0 pictures")
    find(browser, " ")
    assert len(in_rows(browser)) == 14


def test_the_box_leaves_the_clusters_that_merge(browser, tmp_path):
    metrics = result_folder.digits(tmp_path, 5)
    show(browser, tmp_path)
    merging = [
        c
        for c, counts in enumerate(metrics["contingency"])
        if sum(4 * count >= sum(counts) for count in counts) > 1
    ]
    browser.find_element("id", "merging").send_keys(" ")
    assert in_rows(browser) == in_cards(browser) == merging
    assert merging
    assert browser.find_element("id", "count").text == f"{len(merging)} of 5 shown"


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1200])
def test_text_stands_out_and_nothing_overflows(browser, tmp_path, theme, width):
    result_folder.digits(tmp_path)
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"features": [{"name": "prefers-color-scheme", "value": theme}]},
    )
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False},
    )
    show(browser, tmp_path)
    inner, outer, worst = browser.execute_script(
        """
        const light = (colour) => {
          const [r, g, b] = colour.match(/[\\d.]+/g).map((v) => {
            const share = v / 255;
            return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
          });
          return 0.2126 * r + 0.7152 * g + 0.0722 * b;
        };
        const paper = light(getComputedStyle(document.body).backgroundColor);
        const contrast = [...document.querySelectorAll("p, a, small, th, dt, dd, h1, h2, h3, h4")]
          .map((element) => light(getComputedStyle(element).color))
          .map((ink) => (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05));
        const page = document.documentElement;
        return [page.scrollWidth, page.clientWidth, Math.min(...contrast)];
        """
    )
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert inner <= outer
    assert worst >= 4.5


def test_the_command_breaks_between_words_and_is_copied_as_it_is(browser, tmp_path):
    result_folder.digits(tmp_path)
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 360, "height": 900, "deviceScaleFactor": 1, "mobile": False},
    )
    show(browser, tmp_path)
    broken, words, selected = browser.execute_script(
        """
        const code = document.querySelector("pre code");
        const lines = (range) => new Set([...range.getClientRects()].map((box) => box.top)).size;
        const range = document.createRange();
        const broken = [...code.children].filter((word) => {
          range.selectNodeContents(word);
          return lines(range) > 1;
        }).map((word) => word.textContent);
        range.selectNodeContents(code);
        getSelection().removeAllRanges();
        getSelection().addRange(range);
        return [broken, code.children.length, getSelection().toString()];
        """
    )
    command = result_page.command(read_metrics(str(tmp_path))["config"])
    assert selected == command
    assert words == len(command.split(" ")) > 5
    assert [word for word in broken if len(word) < 30] == []  # a long path may
