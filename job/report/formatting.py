"""Formats numbers and names for people."""

import datetime
import math
from typing import Any

from pipeline.features import Drawable, without_unit

MAX_TEXT = 64  # characters of an id or a name
# Not by the locale: a page reads the same wherever it is made.
MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)
SMALL_NUMBERS = (
    "no",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
)


def bounded(text: Any, length: int = MAX_TEXT) -> str:
    """Shortens text to `length` characters, in the middle, and replaces control characters."""
    text = str(text)
    if not text.isprintable():
        text = "".join(c if c.isprintable() else "\ufffd" for c in text)
    if len(text) <= length:
        return text
    return f"{text[: length // 2]}…{text[-length // 2 + 1 :]}"


def figure(value: float | None, digits: int = 4) -> str:
    """Formats a number: `digits` significant ones, thousands apart; a dash for None."""
    if value is None or not math.isfinite(value):
        return "–"
    if isinstance(value, int) or value == 0 or 10 ** (digits - 1) <= abs(value) < 1e15:
        return f"{value:,.0f}"
    return f"{value:#,.{digits}g}"


def percent(share: float) -> str:
    """Formats a share as a percentage; one that is not 0 or 1 never reads 0 % or 100 %."""
    if 0 < share < 0.001:
        return "< 0.1\u00a0%"
    if 0.999 < share < 1:
        return "> 99.9\u00a0%"
    return f"{100 * share:.{0 if share in (0, 1) or 0.01 <= share <= 0.99 else 1}f}\u00a0%"


def transform_note(
    transform: dict[str, Any] | None, drawable: Drawable | None, with_photos: bool = False
) -> str | None:
    """Explains which vectors were clustered and how the page shows them; None for plain images.

    Args:
      with_photos: whether the page shows the images that the vectors were made of.
    """
    if transform is None:
        return None
    count, shape = transform["num_features"], " × ".join(map(str, transform["image_shape"]))
    if drawable is not None:
        drawn = "Pictures, those of members as well,"
        drawn = "Pictures of centroids" if with_photos else drawn
        return (
            f"K-means saw the first {count:,} {drawable.noun} of these {shape} images, which keep "
            f"{percent(drawable.variance_share)} of their variance. {drawn} are drawn from "
            "these vectors."
        )
    spec, normalized = without_unit(transform["spec"])
    made = f"that {bounded(spec)} makes of" if spec else "of"
    length = ", scaled to length 1" if normalized else ""
    shown = "No picture belongs to them: centroids are drawn as lines, members named by their ids."
    if with_photos:
        shown = "No picture belongs to a centroid: the images nearest to it stand for it."
    return f"K-means saw the {count:,} numbers {made} each of these {shape} images{length}. {shown}"


def duration(seconds: float) -> str:
    """Formats seconds: 4.1 s, 2 min 5 s, 1 h 3 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def number_word(count: int) -> str:
    """Writes numbers up to ten in words."""
    return SMALL_NUMBERS[count] if count < len(SMALL_NUMBERS) else f"{count:,}"


def heading(metrics: dict[str, Any]) -> str:
    """Names what was clustered: 10 clusters of 60,000 images, or of 60,000 images of 20 numbers."""
    k, shape = metrics["num_clusters"], metrics["image_shape"]
    numbers = f" of {shape[0]:,} number{_s(shape[0])}" if len(shape) == 1 else ""
    images = f"{metrics['num_images']:,} image{_s(metrics['num_images'])}"
    return f"{k:,} cluster{_s(k)} of {images}{numbers}"


def dataset(about: dict[str, Any]) -> str | None:
    """Names the set of images in metrics.json or sweep.json; None where an older version wrote it.

    Of a path the last part is enough: the whole is in the command.
    """
    given = (about.get("source") or {}).get("input")
    if not given:
        return None
    names = [given] if isinstance(given, str) else list(given)
    first = str(names[0]).rstrip("/").rsplit("/", 1)[-1]
    return bounded(first) + (f" and {len(names) - 1:,} more" if len(names) > 1 else "")


def day(about: dict[str, Any]) -> str | None:
    """The day on which a result was made, as 26 November 2026; None where it is not known."""
    try:
        made = datetime.datetime.fromisoformat(str(about.get("date")))
    except ValueError:
        return None
    return f"{made.day} {MONTHS[made.month - 1]} {made.year}"


def foot(about: dict[str, Any]) -> str:
    """Says which version made a page, from what, and when."""
    version = (about.get("versions") or {}).get("kmeans-job")
    of, on = dataset(about), day(about)
    by = f"kmeans-job {bounded(version)}" if version else "kmeans-job"
    return f"Written by {by}{f' from {of}' if of else ''}{f' on {on}' if on else ''}."


def _s(count: int) -> str:
    return "" if count == 1 else "s"
