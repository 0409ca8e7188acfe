"""Takes the picture of a report that README.md shows: python docs/picture.py [--input SPEC].

It needs Chromium and its driver (Debian: chromium, chromium-driver) and selenium, a test extra.
"""

import argparse
import io
import tempfile
from pathlib import Path

from PIL import Image
from selenium import webdriver

import kmeans_job

TARGET = Path(__file__).with_name("report.png")
WIDTH, HEIGHT = 1000, 1375  # of the window, in pixels: down to the end of the sentences
COLOURS = 128  # enough for a page of greys, in a third of the bytes


def browser() -> webdriver.Chrome:
    """A browser without a window."""
    options = webdriver.ChromeOptions()
    for flag in ("--headless=new", "--no-sandbox", "--hide-scrollbars"):
        options.add_argument(flag)
    options.add_argument(f"--window-size={WIDTH},{HEIGHT}")
    return webdriver.Chrome(options=options)


def screenshot(page: Path) -> Image.Image:
    """The top of a page as a person sees it."""
    driver = browser()
    try:
        driver.get(page.as_uri())
        driver.set_window_size(WIDTH, HEIGHT)
        return Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB")
    finally:
        driver.quit()


def main() -> None:
    """Clusters a set and writes the picture of its report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input", default="digits", help="the images (default: digits)")
    spec = parser.parse_args().input
    with tempfile.TemporaryDirectory() as folder:
        shards, result = f"{folder}/shards", f"{folder}/result"
        kmeans_job.shard(spec, shards)
        kmeans_job.fit(shards, result, 10)
        picture = screenshot(Path(result) / "report.html")
    picture.quantize(COLOURS).save(TARGET, optimize=True)


if __name__ == "__main__":
    main()
