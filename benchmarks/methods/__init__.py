"""The parts of `bench_methods.py`: methods, cells, measurement, ratios and report, one idea in each file."""
