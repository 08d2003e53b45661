"""Replay, rollouts, normalization of observations, and running statistics of training."""
