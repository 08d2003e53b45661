"""The smaller commands, one module each; what is heavy to import is imported in their bodies."""
