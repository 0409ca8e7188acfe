"""The transform that shards: what it counts, what it tries again, what travels to the workers."""

import errno
import pickle

import apache_beam as beam
import pytest
import sets
from apache_beam.options.pipeline_options import PipelineOptions
from counting_source import Numbers

from pipeline import storage
from pipeline.errors import TransientError
from pipeline.shards.manifest import load_manifest
from pipeline.shards.plan import Piece
from pipeline.transforms.shard_images import ShardImages, WriteShard
from pipeline.write import write_shard


@pytest.fixture
def quick(monkeypatch):
    """No waiting between tries."""
    monkeypatch.setattr(storage, "RETRY_SECONDS", (0, 0))


def test_metrics_count_images_and_bytes(tmp_path):
    run = beam.Pipeline(options=PipelineOptions(["--runner", "FnApiRunner"]))
    _ = run | ShardImages(Numbers(), str(tmp_path), 2, 0.1)
    result = run.run()
    result.wait_until_finish()
    counted = {c.key.metric.name: c.committed for c in result.metrics().query()["counters"]}
    size = sum(shard.num_bytes for shard in load_manifest(str(tmp_path)).shards)
    assert counted == {"images": 36, "rejected": 4, "bytes": size}


@pytest.mark.parametrize("failure", [TransientError("gone"), OSError(errno.EIO, "I/O error")])
def test_a_step_is_tried_again(tmp_path, quick, failure):
    piece = Piece(0, 0, 40)
    expected = write_shard(Numbers(), piece, str(tmp_path / "smooth"), 1)
    step = WriteShard(Numbers(failures=(failure,)), str(tmp_path / "bumpy"), 1)
    (written,) = pickle.loads(pickle.dumps(step)).process(piece)
    assert written.shard == expected.shard
    assert sets.contents(tmp_path / "bumpy") == sets.contents(tmp_path / "smooth")


def test_a_manifest_that_cannot_be_written_at_once(tmp_path, quick, monkeypatch):
    """The last step is tried again as well, after the parts of rejected.jsonl are gone."""
    from pipeline.cli import main

    images, labels = sets.digits(120)
    spec = sets.write_folder(tmp_path, images, labels)
    (tmp_path / "folder" / "0" / "broken.png").write_bytes(b"")
    command = ["--input", spec, "--quiet", "--output"]
    assert main([*command, str(tmp_path / "smooth")]) == 0
    write_once, refused = storage.write_once, []

    def fail_once(path, data):
        if path.endswith("manifest.json") and not refused:
            refused.append(path)
            raise TransientError(f"{path}: cannot write")
        write_once(path, data)

    monkeypatch.setattr(storage, "write_once", fail_once)
    assert main([*command, str(tmp_path / "bumpy")]) == 0
    assert refused
    assert sets.contents(tmp_path / "bumpy") == sets.contents(tmp_path / "smooth")
