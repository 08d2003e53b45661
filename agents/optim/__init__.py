"""Optimizers, and gradients per task."""
