"""Prints the tables of what this machine has measured."""

from benchmarks import report


def main(smoke: bool = False) -> None:
    """All of them; `smoke` changes nothing."""
    report.show()
