"""Multi-task SAC: agent, settings, update."""
