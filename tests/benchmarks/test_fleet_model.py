"""The model of a fleet, on numbers that were worked out by hand."""

import dataclasses
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import fleet_model as model
from fleet_model import Job, Rates

RATES = Rates(1.0, 0.1, 2e-3, 1e-4, seconds_message=0.5, seconds_byte=1e-6, cores=2)


def test_one_worker_computes_and_sends_nothing():
    # 1 + 10 · 0.1, and 1,000 images of 2 ms + 10 · 0.1 ms
    assert model.iteration_seconds(RATES, Job(1_000, 10, 3, 1)) == pytest.approx(2 + 3)


def test_workers_on_hosts_of_their_own_share_the_images_and_send_a_ring():
    job = Job(1_000, 10, 3, 4)
    assert job.reduced_bytes == 8 * 10 * 4
    assert model.ring(job) == (6, 1.5 * 320)
    assert model.iteration_seconds(RATES, job) == pytest.approx(2 + 3 / 4 + 6 * 0.5 + 480e-6)


def test_workers_on_one_host_share_its_cores_and_its_network():
    """What a process does on one core takes longer only where they outnumber the cores."""
    four, two = Job(1_000, 10, 3, 4, p=4), Job(1_000, 10, 3, 2, p=2)
    assert model.compute_seconds(RATES, two) == pytest.approx(2 + 3)
    assert model.compute_seconds(RATES, four) == pytest.approx(2 * 2 + 3)
    assert model.reduce_seconds(RATES, four) == pytest.approx(4 * (3 + 480e-6))


@pytest.mark.parametrize(("w", "most"), [(1, 0.0), (2, 0.59), (8, 1.43), (1_024, 3.23)])
def test_the_slowest_of_several_normal_draws(w, most):
    """The expected largest of 2 is 1 / √π = 0.564, of 8 1.424, of 1,024 about 3.25."""
    assert model.slowest(w, 0.1) == pytest.approx(1 + 0.1 * most, abs=2e-3)


def test_a_loss_costs_the_start_and_half_of_what_lies_between_checkpoints():
    # 10 workers, each lost once in 100,000 s: a loss every 10,000 s, which costs 90 s + 60 s / 2.
    assert model.with_restarts(10, 1e5, 60, 90) == pytest.approx(1 + 120 / 1e4, abs=1e-4)


def test_memory_grows_with_what_a_worker_holds():
    job = Job(1_000_000, 100, 50, 4)
    streamed, resident = (model.worker_bytes(job, resident) for resident in (False, True))
    assert resident - streamed == 250_000 * 50
    assert model.first_bytes(job) - model.first_bytes(Job(0, 100, 50, 4)) == 64e6


def test_rates_are_found_again_in_what_the_model_says():
    alone = [
        (n, k, model.iteration_seconds(RATES, Job(n, k, 3, 1)))
        for n in (10, 1_000)
        for k in (10, 100, 500)
    ]
    sums = [(job, model.reduce_seconds(RATES, job)) for w in (2, 4) for job in jobs_of(w)]
    found = model.fitted_reduce(model.fitted_compute(alone, cores=2), sums)
    assert dataclasses.astuple(found) == pytest.approx(dataclasses.astuple(RATES))


def jobs_of(w: int) -> list[Job]:
    return [Job(0, k, 300, w, p=w) for k in (10, 1_000)]
