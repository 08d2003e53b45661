"""Training runs: what a run owns, its folder, checkpoints and logs."""
