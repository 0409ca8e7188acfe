"""What a person does with a report in Chromium: every kind of result, on a desk and on a phone."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from jobs import ROOT
from sklearn.datasets import load_digits

import kmeans_job

AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
SCREENS = {"desk": (1280, 900), "phone": (390, 844)}
PICTURES = ROOT / "out" / "pages"  # kept for people

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pages(cpus, make_shards, fit, new_folder) -> dict[str, Path]:
    """Reports of results, by what they are of."""
    random = np.random.default_rng(0)
    data = load_digits()
    digits = np.rint(data.images * (255 / 16)).astype(np.uint8)
    digits[700] = digits[3]  # a pair with the same pixels
    shards = make_shards(digits, labels=data.target, num_shards=3)
    ramps = np.linspace(0, 1, 40)[None, :, None, None] * random.uniform(60, 255, (90, 1, 1, 3))
    colour = np.broadcast_to(ramps, (90, 40, 40, 3)).astype(np.uint8)
    vectors = random.normal(size=(200, 30)) + 3 * np.eye(30)[np.arange(200) % 4 * 7]
    few = {"init": "random", "max_iterations": 3}
    made = {
        "k=10": fit(shards, 10),
        "k=100": fit(shards, 100, **few),
        "k=1000": fit(shards, 1_000, **few),
        "colour": fit(make_shards(colour), 3),
        "vectors": fit(make_shards(vectors.astype(np.float32)), 4),
    }
    folders = {name: result.folder for name, result in made.items()}
    folders["assigned"] = new_folder() / "new"
    np.savez(
        new := new_folder() / "new.npz", x_train=255 - digits[:300] // 2, y_train=data.target[:300]
    )
    kmeans_job.assign(folders["k=10"], new, folders["assigned"])
    return {name: folder / "report.html" for name, folder in folders.items()}


@pytest.fixture
def at(browser):
    """Sets the size of the window and the theme, until the test is done."""

    def change(screen: str, theme: str = "light") -> None:
        width, height = SCREENS[screen]
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        feature = {"name": "prefers-color-scheme", "value": theme}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})

    yield change
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


KINDS = ["k=10", "k=100", "k=1000", "colour", "vectors", "assigned"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("screen", "theme"), [("desk", "light"), ("desk", "dark"), ("phone", "light")]
)
def test_a_page_fits_its_screen_and_its_limits(browser, at, pages, kind, screen, theme):
    at(screen, theme)
    browser.get(pages[kind].as_uri())
    assert browser.get_log("browser") == []
    wide, width, high, nodes = browser.execute_script(
        "const page = document.documentElement;"
        "return [page.scrollWidth, page.clientWidth, page.scrollHeight,"
        "document.querySelectorAll('*').length]"
    )
    PICTURES.mkdir(parents=True, exist_ok=True)
    browser.save_screenshot(str(PICTURES / f"{kind}-{screen}-{theme}.png"))
    assert wide <= width
    assert nodes <= 8_000
    assert high <= 20_000 or kind != "k=1000"
    assert pages[kind].stat().st_size <= (6 if kind == "k=1000" else 3) << 20


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_violation(browser, at, pages, kind, theme):
    if not AXE.exists():
        pytest.skip("axe-core is not there: npm install --no-save axe-core@4")
    at("desk", theme)
    browser.get(pages[kind].as_uri())
    browser.set_script_timeout(60)
    browser.execute_script(AXE.read_text(encoding="utf-8"))
    found = browser.execute_async_script(
        "const done = arguments[0]; axe.run().then((result) => done("
        "result.violations.map((v) => [v.id, v.nodes.length, v.nodes[0].html])))"
    )
    assert found == []


@pytest.mark.parametrize("kind", ["k=10", "vectors"])
def test_enter_shows_an_image_in_large_and_escape_closes_it(browser, pages, kind):
    browser.get(pages[kind].as_uri())
    opener = browser.find_element("css selector", "#cluster-1 button.open")
    opener.send_keys("\ue007")  # Enter
    large = browser.find_element("id", "large")
    assert large.is_displayed()
    assert browser.find_element("id", "large-id").text == opener.get_attribute("data-id")
    assert "Cluster 1 · Distance " in large.text
    assert bool(large.find_elements("css selector", ".picture img")) == (kind == "k=10")
    large.find_element("id", "copy").send_keys("\ue00c")  # Escape
    assert not large.is_displayed()
    assert browser.switch_to.active_element == opener


def test_a_rectangle_on_the_map_gives_the_ids_that_lie_in_it(browser, at, pages):
    from selenium.webdriver import ActionChains

    at("desk")
    browser.get(pages["k=10"].as_uri())
    plane = browser.find_element("id", "plane")
    browser.find_element("id", "rectangle").click()
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", plane)
    drag = ActionChains(browser).move_to_element_with_offset(plane, -60, -50)
    drag.click_and_hold().move_by_offset(130, 90).release().perform()
    x, y, ids = places_of(browser, plane)
    sure = (abs(x - 5) < 63) & (abs(y + 5) < 43)  # but for the width of a pixel or two
    may = (abs(x - 5) < 67) & (abs(y + 5) < 47)
    listed = [
        button.get_attribute("data-id")
        for button in browser.find_elements("css selector", "#inside button")
    ]
    assert sure.sum() > 3
    assert set(ids[sure]) <= set(listed) <= set(ids[may])
    assert browser.find_element("id", "selected").text.startswith(f"{len(listed)} images")


def test_a_lasso_on_the_map_gives_the_ids_that_lie_in_it(browser, at, pages):
    from selenium.webdriver import ActionChains

    at("desk")
    browser.get(pages["k=10"].as_uri())
    plane = browser.find_element("id", "plane")
    for name in ("rectangle", "lasso"):  # the second takes the place of the first
        browser.find_element("id", name).click()
    assert browser.find_element("id", "rectangle").get_attribute("aria-pressed") == "false"
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", plane)
    drag = ActionChains(browser).move_to_element_with_offset(plane, -90, 80).click_and_hold()
    drag.move_by_offset(90, -160).move_by_offset(90, 160).release().perform()
    x, y, ids = places_of(browser, plane)
    # A triangle: how far each image is within the nearest of its sides, in pixels.
    slope = np.hypot(90, 160)
    depth = np.minimum.reduce(
        [80 - y, *((160 * (90 - s * x) - 90 * (80 - y)) / slope for s in (1, -1))]
    )
    listed = [
        button.get_attribute("data-id")
        for button in browser.find_elements("css selector", "#inside button")
    ]
    assert (depth > 2).sum() > 3
    assert set(ids[depth > 2]) <= set(listed) <= set(ids[depth > -2])
    assert browser.find_element("id", "selected").text.startswith(f"{len(listed)} images")


@pytest.fixture
def finger(browser, at):
    """Touches a phone's screen at places in the window: a list of fingers for each moment."""
    at("phone")
    browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})

    def touch(*moments: list[tuple[float, float]]) -> None:
        for number, places in enumerate(moments):
            points = [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(places)]
            event = {"type": "touchMove" if number else "touchStart", "touchPoints": points}
            browser.execute_cdp_cmd("Input.dispatchTouchEvent", event)
        end = {"type": "touchEnd", "touchPoints": []}
        browser.execute_cdp_cmd("Input.dispatchTouchEvent", end)

    yield touch
    browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})


def middle_of(browser, element) -> tuple[float, float]:
    """Where the middle of an element is in the window, once it is in view."""
    box = browser.execute_script(
        "arguments[0].scrollIntoView({block: 'center', behavior: 'instant'});"
        "return arguments[0].getBoundingClientRect().toJSON()",
        element,
    )
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def test_a_tap_opens_an_image_and_another_closes_it(browser, finger, pages):
    browser.get(pages["k=10"].as_uri())
    opener = browser.find_element("css selector", "#cluster-1 button.open")
    finger([middle_of(browser, opener)])
    large = browser.find_element("id", "large")
    assert large.is_displayed()
    assert browser.find_element("id", "large-id").text == opener.get_attribute("data-id")
    finger([middle_of(browser, large.find_element("css selector", "form button"))])
    assert not large.is_displayed()


def test_fingers_move_the_map_zoom_it_and_open_an_image(browser, finger, pages):
    browser.get(pages["k=10"].as_uri())
    plane = browser.find_element("id", "plane")
    x, y = middle_of(browser, plane)
    before = in_view(browser)
    scrolled = browser.execute_script("return scrollY")
    finger([(x, y)], [(x + 60, y)], [(x + 120, y)])
    assert in_view(browser) < before  # some have left it at the right
    assert browser.execute_script("return scrollY") == scrolled  # the page stays where it is
    finger([(x, y)], [(x - 60, y)], [(x - 120, y)])
    assert in_view(browser) == before
    finger(*([(x - r, y), (x + r, y)] for r in (20, 40, 80, 120)))
    assert in_view(browser) < before / 3
    large = browser.find_element("id", "large")
    assert not large.is_displayed()  # none of this was a tap
    browser.find_element("id", "whole").click()
    across, down, ids = places_of(browser, plane)
    x, y = middle_of(browser, plane)
    finger([(x + across[0] + 1, y + down[0])])
    assert large.is_displayed()
    near = np.hypot(across - across[0] - 1, down - down[0]) < 4
    assert browser.find_element("id", "large-id").text in ids[near]


def in_view(browser) -> int:
    """How many images are in view on the map."""
    browser.execute_script("document.getElementById('seen').click()")
    text = browser.find_element("id", "selected").get_attribute("textContent")
    return int(text.split()[0].replace(",", ""))


def places_of(browser, plane) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the points of the map are, in pixels from its middle, and their ids."""
    points = json.loads(
        browser.execute_script("return document.getElementById('points').textContent")
    )
    width, height = plane.size["width"] - 2, plane.size["height"] - 2  # without the border
    fit = min(width, height) * 0.94 / 10_000
    x, y = np.array(points["x"]) - 5_000, 5_000 - np.array(points["y"])
    return x * fit, y * fit, np.array(points["id"])


def test_the_map_has_every_finding_and_representative(browser, pages):
    browser.get(pages["k=100"].as_uri())
    points = json.loads(
        browser.execute_script("return document.getElementById('points').textContent")
    )
    found = json.loads((pages["k=100"].parent / "findings.json").read_text(encoding="utf-8"))
    wanted = {cluster["representative"] for cluster in found["clusters"]}
    wanted |= {outlier["id"] for outlier in found["outliers"][:24]}
    assert wanted <= set(points["id"])
    assert len(points["id"]) <= 5_000


def test_find_marks_what_it_finds_and_says_where_it_searched(browser, pages):
    browser.get(pages["k=10"].as_uri())
    member = browser.find_element("css selector", "#cluster-3 button.open")
    name = member.get_attribute("data-id")
    browser.find_element("id", "find").send_keys(name)
    marked = browser.find_elements("css selector", "button.open.found")
    assert {button.get_attribute("data-id") for button in marked} == {name}
    said = browser.find_element("id", "count").text
    assert re.search(rf"; {len(marked)} pictures and 1 points of the map found", said)


def test_find_knows_every_image_of_a_pair_with_the_same_pixels(browser, pages):
    browser.get(pages["k=10"].as_uri())
    found = json.loads((pages["k=10"].parent / "findings.json").read_text(encoding="utf-8"))
    ((first, second),) = found["duplicates"]
    browser.find_element("id", "find").send_keys(second)
    (shown,) = browser.find_elements("css selector", ".strip button.open[data-also]")
    assert "found" in shown.get_attribute("class").split()
    shown.click()
    assert browser.find_element("id", "large-id").text == first
    assert f"Same pixels: {second}" in browser.find_element("id", "large").text


def test_of_a_thousand_clusters_a_link_turns_to_the_page_of_its_cluster(browser, pages):
    browser.get(pages["k=1000"].as_uri())
    assert len(browser.find_elements("css selector", "#cards article")) == 30
    browser.find_element("id", "after").click()
    assert browser.find_element("id", "page").text == "31 to 60"
    browser.execute_script("location.hash = ''; document.querySelector('#look a').click()")
    number = browser.execute_script("return document.querySelector('#look a').textContent")
    assert browser.find_element("id", f"cluster-{number}").is_displayed()


def test_the_first_screen_names_the_pair_with_the_same_pixels(browser, pages):
    browser.get(pages["k=10"].as_uri())
    assert "1 image repeats another, in 1 group." in browser.find_element("id", "look").text
