"""What agents learn from, and how it is counted."""
