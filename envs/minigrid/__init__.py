"""MiniGrid and BabyAI suites and their backends."""
