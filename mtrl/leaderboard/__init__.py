"""The leaderboard: from result files to pages. It reads records only; no agent, environment or event log."""
