"""One checkpoint's spectrum and fingerprints: its prunable weights are read once, tensor by tensor."""

import os
from collections.abc import Iterator

import pandas as pd

from essential_sparsity import tables
from essential_sparsity.checkpoints import fingerprints, loading
from essential_sparsity.pruning import spectrum


def measure(manifest: str | os.PathLike, out: str, marks: str, allow_pickle: bool = False) -> pd.DataFrame:
    """Write the tables `spectrum` (to `out`) and `fingerprints` (to `marks`) of a checkpoint; return the first."""
    folder, found = loading.verified_folder(manifest), []

    def weights() -> Iterator:
        for weight, values in loading.iter_prunable(folder, allow_pickle=allow_pickle):
            found.append(fingerprints.of_tensor(weight, values))
            yield weight, values

    frame = spectrum.build(weights())
    tables.write(pd.concat(found), "fingerprints", marks)
    tables.write(frame, "spectrum", out)
    return frame
