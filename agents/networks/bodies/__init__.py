"""Bodies of networks, one architecture a file."""
