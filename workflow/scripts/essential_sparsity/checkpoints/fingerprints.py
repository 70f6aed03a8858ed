"""Fingerprints: what a checkpoint is told apart by, a few numbers per prunable tensor."""

import hashlib

import numpy as np
import pandas as pd
import torch

from essential_sparsity import files
from essential_sparsity.checkpoints.prunable import PrunableWeight

PLACES = 64  # weights of each tensor that are kept: enough to estimate how far two checkpoints are apart


def of_tensor(weight: PrunableWeight, values: torch.Tensor) -> pd.DataFrame:
    """Rows of table `fingerprints` of one prunable tensor: its SHA-256, norm, and PLACES values at fixed places."""
    flat = values.detach().cpu().contiguous().reshape(-1)
    places = files.rng(0, "fingerprint", f"{weight.name} {flat.numel()}").integers(0, flat.numel(), PLACES)
    return pd.DataFrame(
        {
            "tensor": weight.name,
            "sha256": hashlib.sha256(flat.view(torch.uint8).numpy()).hexdigest(),
            "norm": float(torch.linalg.vector_norm(flat, dtype=torch.float64)),
            "number": np.arange(PLACES),
            "value": flat[torch.from_numpy(places)].double().numpy(),
        }
    )
