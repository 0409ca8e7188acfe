"""`python -m pipeline`: the command `shard`."""

import importlib
import sys

from pipeline import interrupts

if __name__ == "__main__":
    sys.exit(interrupts.run(lambda: importlib.import_module("pipeline.cli").main))
