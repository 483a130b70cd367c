"""Polar methods compared on the same matrices, by time and by distance from the SVD."""
