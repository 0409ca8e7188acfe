"""The environment of the processes that this package starts."""

import os

from pipeline.interpreter import ROOT, child_environment


def test_the_environment_of_a_process():
    made = child_environment({"PYTHONPATH": f"/a{os.pathsep}{os.pathsep}/b{os.pathsep}", "X": "1"})
    assert made["X"] == "1"
    assert made["PYTHONSAFEPATH"] == "1"
    assert made["PYTHONPATH"].split(os.pathsep)[:2] == ["/a", "/b"]
    assert "" not in made["PYTHONPATH"].split(os.pathsep)


def test_this_package_is_found_once():
    made = child_environment({"PYTHONPATH": ROOT})
    assert made["PYTHONPATH"] == ROOT
