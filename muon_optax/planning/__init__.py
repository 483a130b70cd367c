"""`plan(params)`: which optimizer trains each parameter, as a table, and what looks wrong."""
