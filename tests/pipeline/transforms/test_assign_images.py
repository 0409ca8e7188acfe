"""The transform that assigns: what travels to the workers, and what they read there."""

import pickle

import numpy as np
import pyarrow.parquet as pq
import pytest
from counting_source import Numbers
from models import save_model

from pipeline.errors import UserError
from pipeline.nearest import Model, read_model
from pipeline.shards.plan import Piece
from pipeline.transforms.assign_images import WriteAssignments


@pytest.fixture
def numbers(tmp_path) -> Model:
    """A model of images like those of `Numbers`."""
    centroids = np.repeat([[0.02], [0.1]], 4, axis=1)
    return read_model(str(save_model(tmp_path / "model", centroids, (2, 2))))


def test_a_step_that_has_travelled(tmp_path, numbers):
    step = WriteAssignments(Numbers(), numbers, str(tmp_path / "out"), 2)
    step = pickle.loads(pickle.dumps(step))
    step.setup()
    (written,) = step.process(Piece(1, 20, 40))
    assert (written.number, written.num_rejected, max(written.labels.numbers)) == (1, 2, 38)
    assert written.cluster_sizes.tolist() == [0, 18]
    table = pq.read_table(tmp_path / "out" / "assignments" / written.shard.file)
    assert table["label"].to_pylist() == [i for i in range(20, 40) if i % 10 != 9]


def test_no_centroids_travel(tmp_path):
    large = save_model(tmp_path / "large", np.zeros((500, 784)), (28, 28))
    step = WriteAssignments(Numbers(), read_model(str(large)), "out", 2)
    assert len(pickle.dumps(step)) < 4_000


def test_a_model_that_is_replaced_meanwhile(tmp_path, numbers):
    step = WriteAssignments(Numbers(), numbers, str(tmp_path / "out"), 2)
    np.save(tmp_path / "model" / "centroids.npy", np.ones((2, 4), np.float32))
    with pytest.raises(UserError, match=r"model: replaced since the job began; run it again"):
        step.setup()
