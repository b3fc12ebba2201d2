"""Parts of `bench_aciq.py`: the published method on made values, and on a small network."""
