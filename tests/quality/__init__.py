"""Evidence that the tests and the library are good, slower than a test: `make quality`.

Catalogue: hard inputs, also for `optax.contrib`. Soak: a long run with faulty gradients and
killed processes. Faults: faults planted by hand, each of which makes a test fail. Mutation:
random faults planted by cosmic-ray (`make mutation`).
"""
