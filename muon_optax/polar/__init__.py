"""Polar methods, one per file. A polar method replaces a matrix by its polar factor."""
