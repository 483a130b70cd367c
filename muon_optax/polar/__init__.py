"""Polar methods, a file each: how to replace a matrix by its polar factor."""
