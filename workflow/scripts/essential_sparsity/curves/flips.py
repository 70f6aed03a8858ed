"""Items that a dense model gets right and a pruned one gets wrong, and the sparsity at which each does so first."""

import pandas as pd


def marks(items: pd.DataFrame) -> pd.DataFrame | None:
    """Right (1) or wrong (0): a row per item, a column per sparsity. None where the scores of items say neither.

    `items`: the rows of table `items` of one seed, a pattern's and the dense model's. `score` is read where it is 0 or 1 throughout, else
    `second_score` (question answering: exact match). What was not evaluated is null.
    """
    for column in ("score", "second_score"):
        values = items[column].astype("float64")
        if len(items) and values.isin([0, 1]).all():
            return items.assign(mark=values).pivot_table(index="item", columns="sparsity", values="mark")
    return None


def first_wrong(found: pd.DataFrame) -> pd.Series:
    """The first sparsity at which each item turns wrong that is right dense (sparsity 0), the earliest first: item -> sparsity.

    `found`: as `marks` gives it. Of those that turn at one level, the items that stay wrong at more levels come first.
    """
    right = found[found[0.0] == 1].drop(columns=0.0)
    wrong = right == 0
    turned = wrong[wrong.any(axis=1)]
    order = pd.DataFrame({"sparsity": turned.idxmax(axis=1).astype("float64"), "stays": -turned.sum(axis=1)})
    return (
        order.rename_axis("item").reset_index().sort_values(["sparsity", "stays", "item"]).set_index("item")["sparsity"]
    )
