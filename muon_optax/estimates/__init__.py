"""Estimates for devices that are not here, from XLA's compilers and a roofline model."""
