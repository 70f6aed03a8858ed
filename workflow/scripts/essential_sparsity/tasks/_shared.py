"""What evaluation and training share, said in a run's log: such items are known by heart, and their scores are no measure of others."""

import pandas as pd


def tell(train: pd.DataFrame, evaluation: pd.DataFrame, *content: str) -> None:
    """Print how many evaluated rows have the content of a training row; `content`: the columns that a model is given."""
    trained, evaluated = (list(zip(*(rows[column] for column in content), strict=True)) for rows in (train, evaluation))
    known = set(trained)
    if shared := sum(row in known for row in evaluated):
        print(f"{shared:,} of {len(evaluated):,} evaluated rows have the content of a training row.", flush=True)
