"""One thread a process: pytest's workers and the jobs they start share the cores, and threads that wait for one spin."""

import gc
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_finish():
    """What is loaded stays: each training of a test collects garbage, and would look at all of it, for half a second."""
    gc.collect()
    gc.freeze()
