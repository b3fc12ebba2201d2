"""Parts of `bench_static.py`: static activation ranges, W8A8 through Neural Compressor and W8A4 simulated."""
