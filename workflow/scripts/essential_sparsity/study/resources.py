"""What a run asks a cluster for: memory and time, from its model's size and its task's numbers, on the safe side.

Standard library only: every parse of the Snakefile imports this module. Nothing here is part of a result.
"""

from essential_sparsity.study import kinds

START_MB = 3000  # Python, torch and the GPU's driver in main memory
START_MINUTES = 10  # a busy file system, imports, reading and checking the weights
EVALUATED_BYTES = 12  # per parameter: the stored weights, the pruned copy in float32, the ranking of one tensor, a mask
TRAINED_BYTES = 28  # beside these: gradients, the two moments of AdamW, the weights that each level starts from
ACTIVATION_BYTES = 100  # per token, layer and unit of width, kept for the backward pass; scoring keeps one layer
VOCABULARY_BYTES = 1_200_000  # per token of a language model's logits: 150,000 words, twice, in float32
GPU_SPEED, CORE_SPEED = 2e12, 1e10  # floating-point operations per second that even an old one does
UNKNOWN_ITEMS = 10_000  # a task that evaluates all it has


def tokens(task: dict) -> int:
    """Tokens, or image patches, of the longest item of a task."""
    return task["context"] or task["max_length"] or (task["image_size"] // 14 + 1) ** 2


def mem_mb(model: dict, task: dict) -> int:
    """Main memory of a run. Layers × width grow as parameters^0.6: 9,000 in BERT-base, 130,000 in a model of 7 billion."""
    trained = task["protocol"] == "finetune"
    weights = model["parameters"] * (TRAINED_BYTES if trained else EVALUATED_BYTES)
    depth = 0.15 * model["parameters"] ** 0.6
    cost = kinds.declared()[task["kind"]].cost
    scored = tokens(task) * cost.scored_at_once
    kept = task["batch_size"] * tokens(task) if trained else scored / 12
    logits = scored * VOCABULARY_BYTES if cost.language_logits else 0
    return int(START_MB + (weights + kept * depth * ACTIVATION_BYTES + logits) / 1e6)


def minutes(model: dict, task: dict, levels: int, gpu: int, threads: int) -> int:
    """Time of a run of some levels: the task's own `minutes_per_level`, or operations over a slow processor's speed."""
    each = task["minutes_per_level"]
    if each is None:
        trained = task["n_train"] * task["epochs"] if task["protocol"] == "finetune" else 0
        passed = (task["n_eval"] or task["windows"] or UNKNOWN_ITEMS) + (
            task["n_train"] if task["protocol"] in ("probe", "knn") else 0
        )
        passes = kinds.declared()[task["kind"]].cost.passes
        passed *= passes if isinstance(passes, int) else task[passes] or tokens(task)
        operations = model["parameters"] * tokens(task) * (6 * trained + 2 * passed)
        each = operations / (GPU_SPEED if gpu else CORE_SPEED * threads) / 60
    return int(START_MINUTES + levels * each)


def pretraining_minutes(row: dict, gpu: int, threads: int) -> int:
    """Time of a pre-training: six operations per weight and token; a self-distillation also runs a teacher, on two views."""
    weights = 12 * row["layers"] * row["width"] ** 2 + (row["vocabulary"] or 0) * row["width"]
    item = row["max_length"] or (row["image_size"] // row["patch_size"]) ** 2 + 1
    views = 3 if row["objective"] == "self-distillation" else 1
    operations = 6 * weights * item * row["batch_size"] * row["steps"] * views
    return int(START_MINUTES + operations / (GPU_SPEED * gpu if gpu else CORE_SPEED * threads) / 60)
