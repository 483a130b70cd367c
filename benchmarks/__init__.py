"""Measurements of speed and accuracy for README and docs: `python -m benchmarks NAME`."""
