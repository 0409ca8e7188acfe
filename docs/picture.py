"""Takes the pictures of a report that pages show: python docs/picture.py [--input SPEC].

It needs Chromium and its driver (Debian: chromium, chromium-driver) and selenium, a test extra.
"""

import argparse
import io
import tempfile
from pathlib import Path

from PIL import Image
from selenium import webdriver

import kmeans_job

# Name of the file → what is at its top: README.md shows the first, docs/report.md the other.
PICTURES = {"report.png": "header", "look.png": "#look"}
WIDTH, HEIGHT = 1000, 1000  # of the window, in pixels
COLOURS = 128  # enough for a page of greys, in a third of the bytes


def browser() -> webdriver.Chrome:
    """A browser without a window."""
    options = webdriver.ChromeOptions()
    for flag in ("--headless=new", "--no-sandbox", "--hide-scrollbars"):
        options.add_argument(flag)
    options.add_argument(f"--window-size={WIDTH},{HEIGHT}")
    return webdriver.Chrome(options=options)


def screenshot(page: Path, top: str) -> Image.Image:
    """A page as a person sees it who has scrolled to `top`, a selector."""
    driver = browser()
    try:
        driver.get(page.as_uri())
        driver.set_window_size(WIDTH, HEIGHT)
        scroll = "document.querySelector(arguments[0]).scrollIntoView({behavior: 'instant'})"
        driver.execute_script(scroll, top)
        return Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB")
    finally:
        driver.quit()


def main() -> None:
    """Clusters a set and writes the pictures of its report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input", default="digits", help="the images (default: digits)")
    spec = parser.parse_args().input
    with tempfile.TemporaryDirectory() as folder:
        shards, result = f"{folder}/shards", f"{folder}/result"
        kmeans_job.shard(spec, shards)
        kmeans_job.fit(shards, result, 10)
        for name, top in PICTURES.items():
            picture = screenshot(Path(result) / "report.html", top)
            picture.quantize(COLOURS).save(Path(__file__).with_name(name), optimize=True)


if __name__ == "__main__":
    main()
