"""Settings of every test."""

import torch

# Tiny tensors gain nothing from a second thread, and on a busy machine the threads mostly wait for each other.
torch.set_num_threads(1)
