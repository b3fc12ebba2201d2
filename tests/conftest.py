"""Settings shared by all tests; this file also puts tests/ on the import path, for `strategies`."""

from __future__ import annotations

from hypothesis import settings

# The same examples on every machine and in every run: a failure in CI can be repeated, and no test is flaky.
settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=50, database=None)
settings.load_profile("repeatable")
