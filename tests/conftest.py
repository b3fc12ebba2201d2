"""Settings shared by all tests; this file also puts tests/ on the import path, for `strategies`."""

from __future__ import annotations

import os

from hypothesis import settings

# Before torch is imported: on tiny models a second thread gains nothing, and on a busy machine the two wait for
# each other at every operation, which makes the tests many times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples on every machine and in every run: a failure in CI can be repeated, and no test is flaky.
settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=50, database=None)
settings.load_profile("repeatable")
