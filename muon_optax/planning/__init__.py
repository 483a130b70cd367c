"""`plan(params)`: a table of how `muon` would train each parameter, and of what looks wrong."""
