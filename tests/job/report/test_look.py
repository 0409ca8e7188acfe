"""What to look at first, in words."""

import pytest

from job.report.look import are_photos, next_steps

FOUND = {"singletons": [], "num_duplicates": 0}
METRICS = {
    "num_clusters": 20,
    "num_images": 1_000,
    "image_shape": [8, 8],
    "simplified_silhouette": 0.3,
}


@pytest.mark.parametrize(
    ("metrics", "found", "merging", "said"),
    [
        ({}, {}, 0, None),
        ({}, {"singletons": [1]}, 0, None),
        ({}, {"singletons": [1, 2]}, 0, "2 of 20 clusters hold a single image: k may be too large"),
        ({"num_clusters": 5}, {"singletons": [1]}, 0, "1 of 5 clusters holds a single image"),
        ({}, {}, 5, None),
        ({}, {}, 6, "6 of 20 clusters hold two labels or more with 25 % each: try a larger k"),
        ({"simplified_silhouette": 0.05}, {}, 0, "hardly stand apart (mean silhouette 0.050)"),
        ({"image_shape": [64, 64, 3]}, {}, 0, "try an embedding"),
        ({}, {"num_duplicates": 10}, 0, "10 images, 1\u00a0% of the set, repeat the pixels"),
        ({}, {"num_duplicates": 9}, 0, None),
    ],
)
def test_the_next_step_is_what_the_numbers_say(metrics, found, merging, said):
    steps = next_steps({**METRICS, **metrics}, {**FOUND, **found}, merging)
    assert len(steps) == (said is not None)
    assert all(said in step for step in steps)


@pytest.mark.parametrize(
    ("shape", "transform", "photos"),
    [
        ([28, 28], None, False),
        ([8, 8, 3], None, False),
        ([32, 32, 3], None, True),
        ([20], {"spec": "pca:20"}, False),
    ],
)
def test_large_images_in_colour_are_photos(shape, transform, photos):
    assert are_photos({"image_shape": shape, "transform": transform}) == photos
