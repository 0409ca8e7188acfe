"""The callbacks of a fit, each told by hand what the loop would tell it."""

import io

import numpy as np
import pytest

from job.callbacks import Callbacks, DoNothing, Draws, Ending, Recording
from job.checkpoint import Checkpoints
from job.kmeans.loop import IterationRecord, State
from job.result.write import History
from pipeline.terminal import Progress

RECORD = IterationRecord(0, 1, 12.5, 40, 0.25, 0, 0.5)


class Listener(DoNothing):
    def __init__(self, name: str, heard: list):
        self._name, self._heard = name, heard

    def on_seeding(self, restart: int, num_centroids: int) -> None:
        self._heard.append((self._name, restart, num_centroids))

    def on_iteration(self, record: IterationRecord) -> None:
        self._heard.append((self._name, record))

    def on_state(self, state: State) -> None:
        self._heard.append((self._name, state))


def test_all_are_told_in_turn():
    heard: list = []
    callbacks = Callbacks(Listener("a", heard), DoNothing(), Listener("b", heard))
    callbacks.on_seeding(1, 2)
    callbacks.on_iteration(RECORD)
    callbacks.on_state(state := State())
    assert heard == [
        *(("a", 1, 2), ("b", 1, 2)),
        *(("a", RECORD), ("b", RECORD)),
        *(("a", state), ("b", state)),
    ]


def test_draws_are_kept_by_restart():
    first, second = (tuple(np.full((n, 2), n, np.uint8)) for n in (1, 2))
    draws = Draws()
    draws.on_state(State(restart=0, chosen=first))
    draws.on_state(State(restart=0, chosen=second))
    draws.on_state(State(restart=0))  # iterations have begun
    draws.on_state(State(restart=1, chosen=first))
    assert draws.by_restart == {0: second, 1: first}


def test_the_end_says_where():
    class Asked:
        def end_all_if_asked(self, where: str) -> None:
            raise InterruptedError(where)

    with pytest.raises(InterruptedError, match=r"^after restart 3, iteration 7$"):
        Ending(Asked()).on_state(State(restart=2, iteration=7))


@pytest.fixture
def recorded(tmp_path):
    """A Recording after an iteration, the folder it writes to and what it shows."""
    checkpoints = Checkpoints(str(tmp_path / "checkpoint"), {}, 0, lambda: 0.0)
    history = History(str(tmp_path))
    with Progress("fit", None, "iterations", stream=(shown := io.StringIO())) as progress:
        recording = Recording(1000, 10, history, progress, checkpoints)
        recording.on_iteration(RECORD)
        recording.on_state(State(iteration=1))
    history.close()
    return tmp_path, shown.getvalue()


def test_iterations_are_recorded(recorded):
    folder, _ = recorded
    (line,) = (folder / "history.jsonl").read_text().splitlines()
    assert '"inertia": 12.5' in line
    (state,) = (folder / "checkpoint").iterdir()
    assert state.name == "state-00000001"


def test_iterations_are_shown(recorded):
    assert recorded[1] == "fit: 1 iterations, inertia 12.5, 40 changed, 2,000 images/s\n"


def test_seeding_is_shown(tmp_path):
    checkpoints = Checkpoints(str(tmp_path / "checkpoint"), {}, 0, lambda: 0.0)
    history = History(str(tmp_path), b"{}\n{}\n")  # of a run that was killed
    with Progress("fit", None, "iterations", stream=(shown := io.StringIO())) as progress:
        Recording(1000, 10, history, progress, checkpoints).on_seeding(1, 4)
    history.close()
    assert shown.getvalue() == "fit: 2 iterations, restart 2, 4 of 10 initial centroids\n"
