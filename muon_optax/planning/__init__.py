"""`plan(params)`: how `muon` would train each parameter, and what looks wrong, as a table."""
