"""Trained agents in folders that others can read."""
