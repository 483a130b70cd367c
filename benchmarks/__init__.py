"""Measurements that the README and the docs rest on: `python -m benchmarks NAME`."""
