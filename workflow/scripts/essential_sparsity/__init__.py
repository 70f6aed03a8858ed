"""Essential sparsity: how much of a pre-trained transformer is free to remove."""

__version__ = "0.2.10"
