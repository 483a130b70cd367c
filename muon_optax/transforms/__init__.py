"""Chainable Optax transformations, one equation a file."""
