"""The paper's experiments, on two cores."""
