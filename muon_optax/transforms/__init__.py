"""Chainable Optax transformations, one equation per file."""
