"""Curves of quality over sparsity: metrics, resampling, readings, knees, differences. Pure functions over arrays and frames."""
