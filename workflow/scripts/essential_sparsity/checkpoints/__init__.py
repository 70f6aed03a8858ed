"""Checkpoints: which weights are prunable, how they are stored, how they are loaded."""
