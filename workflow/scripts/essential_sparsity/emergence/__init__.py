"""Sparsity along pre-training: measures, change points, suspect checkpoints, and the pre-trainings made here."""
