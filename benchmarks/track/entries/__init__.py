"""The entries of the track, a file each; see `benchmarks/track/entry.py`."""
