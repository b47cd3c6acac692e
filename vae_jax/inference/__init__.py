"""Inference without the encoder: exact on a grid, variational for each example, annealed importance sampling, PSIS."""
