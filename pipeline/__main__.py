"""`python -m pipeline`: the command `shard`, which needs no TensorFlow."""

import sys

from pipeline.shard import main

if __name__ == "__main__":
    sys.exit(main())
