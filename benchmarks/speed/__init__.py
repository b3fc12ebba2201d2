"""The parts of `bench_speed.py`: one thing that is timed in each file, the promises, and the report."""
