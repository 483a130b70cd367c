"""Variants of Muon: one small transformation a file, each with its source."""
