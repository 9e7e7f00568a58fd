"""Benchmarks and figures: `python -m paper.bench_NAME`."""
