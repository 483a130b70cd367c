"""Prints this machine's results as tables."""

from benchmarks import report


def main(smoke: bool = False) -> None:
    """All of them; `smoke` changes nothing."""
    report.show()
