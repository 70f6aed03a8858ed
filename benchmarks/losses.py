"""What pruning costs the layers themselves, on the data that it is calibrated on: magnitude, Wanda, SparseGPT.

    python benchmarks/losses.py [--model FOLDER] [--texts FILE] [--sparsity 0.5] [--sequences 32] [--length 256]

Of a real decoder (SmolLM2, as `config/calibrated.yaml` fetches it) and its calibration texts: Σ‖(W − W′)x‖² / Σ‖Wx‖² over the
inputs x that the dense model's matrices see, by kind of matrix and over all, for each pattern. SparseGPT minimises it given the mask,
Wanda for masks without updates, magnitude (per matrix, per row) not at all. Exits with 1 where it does not fall in this order.
"""

import argparse
import copy
import sys
from collections import defaultdict
from pathlib import Path

import pandas as pd
import torch
import transformers

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow/scripts"))
from essential_sparsity.checkpoints import loading, prunable
from essential_sparsity.pruning import calibrated, masks

STORE = Path(__file__).parents[1] / "results/store"
PATTERNS = ("layerwise", "rowwise", "wanda", "sparsegpt")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", type=Path, default=STORE / "checkpoints/smollm2/files", help="checkpoint of a decoder"
    )
    parser.add_argument("--texts", type=Path, default=STORE / "datasets/wiki-leads/files/data.parquet")
    parser.add_argument("--sparsity", type=float, default=0.5)
    parser.add_argument("--sequences", type=int, default=32)
    parser.add_argument("--length", type=int, default=256)
    args = parser.parse_args(argv)
    transformers.logging.disable_progress_bar()
    dense = loading.load_model(args.model, "AutoModelForCausalLM").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(args.model, local_files_only=True)
    ids = tokenizer("\n".join(pd.read_parquet(args.texts, columns=["text"])["text"]), add_special_tokens=False)[
        "input_ids"
    ]
    ids = torch.tensor(ids[: args.sequences * args.length]).view(args.sequences, args.length)
    batches = [{"input_ids": part} for part in ids.split(8)]
    data = calibrated.Calibration(args.texts.stem, batches, args.sequences, ids.numel(), 0, "")
    table = pd.DataFrame({pattern: losses(dense, pattern, data, args.sparsity) for pattern in PATTERNS})
    print(
        f"{args.model}: {args.sparsity:.0%} of each matrix, {ids.numel():,} tokens; share of the outputs' square that is lost"
    )
    print(table.to_string(float_format="{:.4f}".format))
    by_matrix, by_row, wanda, sparsegpt = table.loc["all"]
    if not sparsegpt < wanda < min(by_matrix, by_row):
        sys.exit("It does not fall.")


def losses(
    dense: transformers.PreTrainedModel, pattern: str, data: calibrated.Calibration, sparsity: float
) -> pd.Series:
    """The loss by role of the matrices and over all, index `role` and `all`."""
    pruned = copy.deepcopy(dense)
    if pattern in ("layerwise", "rowwise"):
        masks.plan(pattern, prunable.prunable_parameters(pruned), [sparsity], 0).prune_(sparsity)
    else:
        calibrated.Plan(pattern, pruned, data, 0).prune_(sparsity)
    lost, there = defaultdict(float), defaultdict(float)
    kept = loading.parameters(pruned)
    roles = {weight.name.removesuffix(".weight"): weight.role for weight in loading.find_prunable(dense)}
    hooks = []
    for name, module in dense.base_model.named_modules():
        if name in roles:

            def add(module, inputs, output, name=name):
                difference = module.weight - kept[f"{name}.weight"]
                for key in (roles[name], "all"):
                    lost[key] += float((inputs[0] @ difference.t()).double().square().sum())
                    there[key] += float((inputs[0] @ module.weight.t()).double().square().sum())

            hooks.append(module.register_forward_hook(add))
    with torch.inference_mode():
        for batch in data.batches:
            dense.base_model(**batch, use_cache=False)
    for hook in hooks:
        hook.remove()
    return pd.Series({key: lost[key] / there[key] for key in [*dict.fromkeys(roles.values()), "all"]})


if __name__ == "__main__":
    main()
