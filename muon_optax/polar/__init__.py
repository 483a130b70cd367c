"""Polar methods, which replace a matrix by its polar factor, one per file."""
