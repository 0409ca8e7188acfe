"""`python -m job`: the same as `kmeans-job`."""

import sys

from job.start import main

if __name__ == "__main__":
    sys.exit(main())
