"""The smaller commands, one module each. A command imports heavy packages inside its functions."""
