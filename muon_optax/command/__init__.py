"""The command line: `python -m muon_optax bench`, `plan` and `check`."""
