"""`plan(params)`: how each parameter would be trained, as a table, and what looks wrong."""
