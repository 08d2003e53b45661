"""Agents as others get them: from files, run folders and the Hugging Face Hub, and as exported policies."""
