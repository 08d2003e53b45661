"""Meta-World suites and their backends."""
