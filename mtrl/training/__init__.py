"""Training runs: the run, its folder, its checkpoints and its logs."""
