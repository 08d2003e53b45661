"""Sweeps: suites x methods x seeds as training runs, on this machine or on a Ray cluster, restartable at any moment."""
