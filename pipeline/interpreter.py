"""Python processes that this package starts: they import the same modules as their parent."""

import os
import sysconfig
from collections.abc import Mapping
from pathlib import Path

import pipeline

ROOT = str(Path(pipeline.__file__).parents[1])  # the folder that this package is imported from


def child_environment(caller: Mapping[str, str]) -> dict[str, str]:
    """Makes the environment variables of a new Python process from those of its parent.

    The process finds this package where the parent found it. It imports nothing from the current
    folder, where a user's own `json.py` or `pipeline.py` would replace the real one.
    """
    # An empty entry means the current folder.
    paths = [path for path in caller.get("PYTHONPATH", "").split(os.pathsep) if path]
    installed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    if ROOT not in installed and ROOT not in paths:
        paths.append(ROOT)
    return {**caller, "PYTHONPATH": os.pathsep.join(paths), "PYTHONSAFEPATH": "1"}
