"""Generated parts of the documentation and of the README, made from the registries and from ``results/``."""
