"""Polar methods compared on the same matrices by time, memory and accuracy."""
