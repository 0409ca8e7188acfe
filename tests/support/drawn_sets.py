"""Sets of images that hypothesis draws."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays


@st.composite
def sets(draw) -> tuple[np.ndarray, np.ndarray]:
    """Images [n, d] and centroids [k, d], with duplicates and pixels that are always the same."""
    d, k = draw(st.sampled_from([(1, 2), (3, 4), (8, 3)]))
    values = draw(st.sampled_from([st.integers(0, 255), st.integers(100, 102)]))
    few = arrays.arrays(np.uint8, st.tuples(st.integers(1, 12), st.just(d)), elements=values)
    images = draw(few)
    images[:, draw(st.lists(st.integers(0, d - 1), max_size=d - 1))] = 77
    images = np.repeat(images, draw(st.integers(1, 3)), axis=0)
    steps = draw(st.sampled_from([255, 510, 256]))
    wanted = arrays.arrays(np.int64, (k, d), elements=st.integers(0, steps))
    return images, draw(wanted) / steps
