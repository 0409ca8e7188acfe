"""Requests, and what a manifest says of them."""

from pipeline.sources import Request


def test_what_the_manifest_says():
    assert Request(("a.npz",), "all").describe() == {"input": "a.npz", "split": "all"}
    assert Request(("a", "b"), "train", (8, 9), color="gray").describe() == {
        "input": ["a", "b"],
        "split": "train",
        "image_size": [8, 9],
        "color": "gray",
    }
