"""The official evaluation, and films of it."""
