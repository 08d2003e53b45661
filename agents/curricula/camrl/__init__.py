"""CAMRL (Huang et al., TPAMI 2023): the curriculum, the loss of its transfer matrix, and the solver."""
