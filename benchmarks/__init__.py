"""Measurements that the README and the docs rest on: `python -m benchmarks NAME`."""

import sys
from pathlib import Path

# The examples are scripts that import each other by name, as when they are run.
sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
