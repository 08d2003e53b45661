"""Multi-task PPO: agent, settings, update."""
