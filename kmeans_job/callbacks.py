"""Callbacks of a fit: they are told of every iteration, and may stop it.

>>> class Patience(Callback):
...     def on_iteration(self, record):
...         return record.changed < 100  # True: good enough
>>> fit("shards", "out", 10, callbacks=[Patience()])

TensorBoard has an option of its own: `fit(..., tensorboard="logs")`.
"""

import importlib
import numbers
from typing import TYPE_CHECKING, Any

from pipeline.errors import UserError, install_hint

if TYPE_CHECKING:
    from job.kmeans.loop import IterationRecord


class Callback:
    """Does nothing at any event: the base of callbacks that care for some events only.

    What a callback raises ends the fit, which resumes when it is called again.
    """

    def on_begin(self, config: dict[str, Any]) -> None:
        """Called before the first iteration, with the options of the fit by name."""

    def on_iteration(self, record: "IterationRecord") -> bool | None:
        """Called after every iteration.

        Args:
          record: what a line of history.jsonl holds: `restart`, `iteration`, `inertia`, `changed`,
            `shift`, `empty` and `seconds`.

        Returns:
          True to end the fit here. The result is then what it has found; metrics.json says where
          it was `stopped`, and `converged` is false unless it had just converged.
        """
        return None

    def on_end(self, metrics: dict[str, Any] | None) -> None:
        """Called with metrics.json of the finished result; with None if the fit has failed."""


class MLflow(Callback):
    """Logs a fit to MLflow: options as parameters, each iteration and the result as metrics.

    It logs to the run that is active, or else to one of its own. The extra `mlflow`.
    """

    def __init__(self, run_name: str | None = None):
        """Takes the name of the run, if it is one of its own."""
        self._run_name = run_name
        self._mlflow = _imported("mlflow", "mlflow")
        self._is_own, self._step = False, 0

    def on_begin(self, config: dict[str, Any]) -> None:
        self._is_own, self._step = self._mlflow.active_run() is None, 0
        if self._is_own:
            self._mlflow.start_run(run_name=self._run_name)
        self._mlflow.log_params(config)

    def on_iteration(self, record: "IterationRecord") -> None:
        self._step += 1  # through all restarts
        self._mlflow.log_metrics(_numbers(record._asdict()), step=self._step)

    def on_end(self, metrics: dict[str, Any] | None) -> None:
        if metrics is not None:
            final = {f"final_{name}": value for name, value in _numbers(metrics).items()}
            self._mlflow.log_metrics(final)
        if self._is_own:
            self._mlflow.end_run("FAILED" if metrics is None else "FINISHED")


class WeightsAndBiases(Callback):
    """Logs a fit to Weights & Biases: options as config, iterations as history, and a summary.

    It logs to the run that is active, or else to one of its own. The extra `wandb`.
    """

    def __init__(self, **init: Any):
        """Takes the keywords of `wandb.init`, if the run is one of its own: `project`, `mode` …"""
        self._init = init
        self._wandb = _imported("wandb", "wandb")
        self._run: Any = None
        self._is_own = False

    def on_begin(self, config: dict[str, Any]) -> None:
        self._is_own = self._wandb.run is None
        self._run = self._wandb.init(**self._init) if self._is_own else self._wandb.run
        self._run.config.update(config, allow_val_change=True)

    def on_iteration(self, record: "IterationRecord") -> None:
        self._run.log(_numbers(record._asdict()))

    def on_end(self, metrics: dict[str, Any] | None) -> None:
        if self._run is None:  # it could not begin
            return
        if metrics is not None:
            self._run.summary.update(_numbers(metrics))
        if self._is_own:
            self._run.finish(exit_code=int(metrics is None))


def _imported(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"callbacks: {module} is not installed; {install_hint(extra)}") from error


def _numbers(values: dict[str, Any]) -> dict[str, float]:
    """Returns the values that are numbers."""
    return {
        name: float(value)
        for name, value in values.items()
        if isinstance(value, numbers.Real) and not isinstance(value, bool)
    }
