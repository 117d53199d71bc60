"""Measurements of Assay: each module is a command that writes ``benchmarks/results/NAME.json``."""
