"""Settings of every test."""

import os

import torch
from hypothesis import settings

# Tiny tensors gain nothing from a second thread, and on a busy machine the threads mostly wait for each other.
torch.set_num_threads(1)

# Two runs of the tests give the same verdict: examples follow from the test's code, and none are remembered.
# HYPOTHESIS_PROFILE=explore or --hypothesis-profile=explore draws new ones and remembers those that fail.
settings.register_profile("repeatable", derandomize=True, database=None)
settings.register_profile("explore", derandomize=False, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))
