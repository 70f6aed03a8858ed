"""The bins of a magnitude spectrum, as they are stored: what each stands for, and the counts of a tensor."""

import numpy as np
import pandas as pd

BINS = 1 << 15
LOW_BITS = 16  # of a float32 below its bin
INFINITY_BIN = {"float32": 0x7F80, "bfloat16": 0x7F80, "float16": 0x7C00}  # infinity and NaN lie at or above it


def histograms(frame: pd.DataFrame) -> dict[str, np.ndarray]:
    """Back from the stored rows to one array of 32,768 counts per tensor."""
    return {tensor: counts_of(rows) for tensor, rows in frame.groupby("tensor", sort=True)}


def counts_of(rows: pd.DataFrame) -> np.ndarray:
    """The 32,768 counts of one tensor from its rows."""
    counts = np.zeros(BINS, dtype=np.int64)
    counts[rows["bin"].to_numpy()] = rows["count"].to_numpy()
    return counts


def describe_bins(dtype: str) -> np.ndarray:
    """Lower edge of each bin as float64, units of the weight: float of the bin's bits."""
    bits = np.arange(BINS, dtype=np.uint16)
    if dtype == "float16":
        return bits.view(np.float16).astype(np.float64)
    with np.errstate(invalid="ignore"):  # NaN bins lie past INFINITY_BIN
        return (bits.astype(np.uint32) << LOW_BITS).view(np.float32).astype(np.float64)
