"""The model of a result, for other programs: ONNX, or the folder that TensorFlow Serving loads."""

from job.config import ExportConfig
from job.result.folder import MODEL
from job.result.onnx_model import onnx_model
from job.result.read import Result
from job.result.saved_model import MARKER
from pipeline import storage
from pipeline.errors import UserError

ONNX_FILE = "model.onnx"
VERSION = "1"  # TensorFlow Serving loads the folder with the largest number


def export_model(result: Result, config: ExportConfig) -> None:
    """Writes what `config.what` names into a new folder: OUT/model.onnx or OUT/1.

    Raises:
      UserError: the output is there, an option is not one of models, or a package is missing.
    """
    for name in ("images", "per_cluster", "link"):
        if getattr(config, name):
            flag = name.replace("_", "-")
            raise UserError(f"--{flag}: not with --what {config.what}, which exports no images")
    if storage.exists(config.output) and list(storage.walk(config.output)):
        raise UserError(f"--output {config.output}: is there already; give a new or empty folder")
    if config.what == "onnx":
        facts = result.metrics
        model = onnx_model(result.centroids, tuple(facts["image_shape"]), facts["dtype"])
        storage.make_folder(config.output)
        storage.write_bytes(storage.join(config.output, ONNX_FILE), model)
    else:
        _copy_model(storage.join(config.run, MODEL), storage.join(config.output, VERSION))


def _copy_model(source: str, target: str) -> None:
    # Its marker last: a server that watches the folder then never loads half a model.
    for name in sorted(storage.walk(source), key=lambda name: name == MARKER):
        storage.copy(storage.join(source, name), storage.join(target, name))
