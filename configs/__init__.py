"""Settings as YAML that hold differences: families and suites of tasks, methods, and sweeps."""
