"""Hyperparameter search with Optuna; a trial is a training of several seeds."""
