"""What makes a site of `docs/`: formulas, the reference, links, and outputs of snippets."""
