"""The compiled Meta-World engine: stock physics and V2 rewards from plain arrays, without Python in the loop."""
