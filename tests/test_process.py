"""An import or a fit leaves the process of its caller as it was; a command sets up its own."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import shard_set

ROOT = Path(__file__).resolve().parents[1]
HEAVY = (
    *("tensorflow", "apache_beam", "keras", "numpy", "scipy", "pyarrow", "sklearn", "PIL"),
    *("google.cloud", "fsspec", "jinja2"),
)

# What a library could change for everybody else in its process, as JSON.
SNAPSHOT = """
import gc, json, logging, os, signal, sys, threading, warnings

def loggers():
    named = {"": logging.getLogger(), **logging.Logger.manager.loggerDict}
    found = {
        name: (logger.level, logger.propagate, len(logger.handlers), len(logger.filters))
        for name, logger in named.items()
        if isinstance(logger, logging.Logger)
    }
    return {name: state for name, state in found.items() if state != (0, True, 0, 0)}

def descriptors():
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[name] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:  # the descriptor of the listing itself
            continue
    return found

def handlers():
    numbers = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})
    return {int(number): repr(signal.getsignal(number)) for number in numbers}

def wakeup():
    signal.set_wakeup_fd(number := signal.set_wakeup_fd(-1))
    return number

def tensor_float_32():
    tf = sys.modules.get("tensorflow")
    return tf and tf.config.experimental.tensor_float_32_execution_enabled()

def snapshot():
    return {
        "warnings": [repr(each) for each in warnings.filters],
        "loggers": loggers(),
        "logging": (logging.root.manager.disable, repr(logging.getLoggerClass())),
        "descriptors": descriptors(),
        "signals": handlers(),
        "wakeup": wakeup(),
        "environment": dict(os.environ),
        "garbage": (gc.get_freeze_count(), gc.isenabled(), gc.get_threshold()),
        "import": (list(sys.path), [repr(type(each)) for each in sys.meta_path]),
        "hooks": (repr(sys.excepthook), repr(threading.excepthook)),
        "folder": os.getcwd(),
        "tf32": tensor_float_32(),
    }

for module in ("json", "socket", "ssl", "ctypes"):  # their own changes are not ours
    __import__(module)
"""


def changes(tmp_path: Path, first: str, then: str) -> tuple[dict[str, list], set[str]]:
    """What `then` changes in a process that has run `first`: before and after; modules it loads."""
    code = f"""{SNAPSHOT}
{first}
before, loaded = snapshot(), set(sys.modules)
{then}
after = snapshot()
result = {{name: [before[name], after[name]] for name in before if before[name] != after[name]}}
print(json.dumps([result, sorted(set(sys.modules) - loaded)]))
"""
    (script := tmp_path / "script.py").write_text(code)
    done = subprocess.run(
        [sys.executable, script],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found, modules = json.loads(done.stdout.splitlines()[-1])
    return found, set(modules)


def test_importing_changes_nothing_and_loads_nothing_heavy(tmp_path):
    found, modules = changes(tmp_path, "", "import kmeans_job, job, pipeline")
    assert found == {}
    assert {"kmeans_job", "job", "pipeline"} <= modules
    assert modules.isdisjoint(HEAVY)


def test_the_options_and_the_command_line_load_nothing_heavy(tmp_path):
    found, modules = changes(tmp_path, "import numpy, tqdm", "import job.cli, pipeline.shard")
    assert found == {}
    assert modules.isdisjoint({"tensorflow", "apache_beam", "keras", "scipy", "pyarrow", "sklearn"})


# Everything that TensorFlow changes when it is imported and first used.
USE_TENSORFLOW = """
import tensorflow as tf
strategy = tf.distribute.MirroredStrategy(
    ["CPU:0"], cross_device_ops=tf.distribute.ReductionToOneDevice()
)
double = tf.function(lambda x: 2 * x)
strategy.run(double, (tf.ones([2]),))
tf.saved_model.save(tf.Module(), "model")
import pyarrow.parquet, scipy.optimize
"""


@pytest.mark.parametrize("options", ["", "replicas=1, memory='stream', init='random'"])
def test_a_fit_changes_nothing(tmp_path, options):
    pixels = np.random.default_rng(0).integers(0, 256, (200, 16), dtype=np.uint8)
    labels = np.arange(200) % 3
    shards = shard_set.write(tmp_path / "shards", pixels, labels=labels, num_shards=2)
    call = f"kmeans_job.fit({shards!r}, {str(tmp_path / 'out')!r}, 3, {options})"
    found, _ = changes(tmp_path, USE_TENSORFLOW, f"import kmeans_job\n{call}")
    assert found == {}


# Everything that scikit-learn changes when it is imported, but no file may be made or opened.
USE_SCIKIT_LEARN = """
import sklearn.cluster, sklearn.utils.estimator_checks
import numpy
X = numpy.random.default_rng(0).integers(0, 256, (10_000, 784), dtype=numpy.uint8)
"""
WATCH_FILES = """
sys.dont_write_bytecode = True
opened = []
def watch(event, arguments):
    written = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    if written or event in ("os.mkdir", "tempfile.mkstemp", "tempfile.mkdtemp", "socket.bind"):
        opened.append((event, str(arguments)))
sys.addaudithook(watch)
"""


def test_a_fit_of_an_array_changes_nothing_and_needs_no_file(tmp_path):
    first = USE_TENSORFLOW + USE_SCIKIT_LEARN + WATCH_FILES
    fit = "from kmeans_job import KMeans\n"
    fit += "kmeans = KMeans(10, tol=1e9).fit(X)\nassert not opened, opened\n"
    fit += "kmeans.predict(X), kmeans.transform(X), kmeans.score(X)\nassert not opened, opened"
    found, modules = changes(tmp_path, first, fit)
    assert found == {}
    assert modules.isdisjoint({"apache_beam", "keras", "jinja2", "PIL", "google.cloud", "fsspec"})


def test_a_change_would_be_found(tmp_path):
    found, _ = changes(
        tmp_path,
        "",
        "import tempfile\n"
        "warnings.simplefilter('ignore', UserWarning)\n"
        "logging.getLogger('library').setLevel(logging.ERROR)\n"
        "logging.getLogger().addFilter(lambda record: False)\n"
        "os.environ['A_SETTING'] = '1'\n"
        "signal.signal(signal.SIGTERM, lambda *_: None)\n"
        "os.dup(2)\n"
        "gc.freeze()\n",
    )
    assert found.keys() == {
        *("warnings", "loggers", "environment", "signals", "descriptors", "garbage")
    }
