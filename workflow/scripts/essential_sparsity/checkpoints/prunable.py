"""Which weights of a transformer are prunable: found by their role in the module tree, on any device (meta too).

Prunable are the linear weights inside the repeated blocks: attention and MLP projections, mixture-of-experts weights.
Everything outside a block is left alone by construction (embeddings, pooler, heads, patch embedding and merging,
input and output projections); inside a block so are norms with all that is in them, biases, routers, expert gates,
position tables, adapters, what mixes several residual streams, and convolutions. In a model that has other mixers beside
attention (state-space, recurrent, short convolutions), their linear weights are prunable as well, and count as "mlp".
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.pytorch_utils import Conv1D

from essential_sparsity import errors, files

ATTENTION = re.compile(r"attention|attn", re.IGNORECASE)
MLP = re.compile(r"mlp|feed_?forward|ffn", re.IGNORECASE)
# Choice of experts; learned position biases (a position-wise MLP is none); what is inside a norm (its gate); what is
# there for one language or one use of a shared block; what mixes residual streams (Gemma 3n's is called AltUp).
NOT_A_PROJECTION = re.compile(
    r"router|position(?!wise)|(layer|rms)_?norm\b|adapter|hyper_?connection|altup", re.IGNORECASE
)
NOT_A_MATRIX = re.compile(r"bias|^(A_log|D)$|^time_")  # parameters: decays of Mamba, time mixing of RWKV
EXPERTS = re.compile(r"expert", re.IGNORECASE)
# Classes of stacked matrices that do not say where their inputs are: [expert, in, out], [head, in, out], [head, out, in].
STACKS = {"Llama4TextExperts": 1, "RecurrentGemmaRglru": 1, "ZambaMambaMixer": 2}
UNKNOWN = 0.05  # of the blocks' weights: at most so many may have an unknown role


class CheckpointError(errors.UserError):
    """A checkpoint cannot be used; the message names what is wrong and what to do."""


@dataclass(frozen=True)
class PrunableWeight:
    """One prunable matrix (or one merged stack of expert matrices).

    name       parameter path inside `model.base_model`, the same with any head or none
    layer      index of its block, counted over the whole base model in module order (encoder first, then decoder)
    role       path inside the block without numbers and `.weight`, for example `attention.self.query`
    sublayer   "attention" or "mlp"
    shape      shape of the tensor in memory
    input_dim  the dimension that runs over inputs: 1 for a linear layer, 0 for GPT-2's Conv1D, 1 or 2 for experts
    """

    name: str
    layer: int
    role: str
    sublayer: str
    shape: tuple[int, ...]
    input_dim: int


def find_prunable(model: PreTrainedModel) -> list[PrunableWeight]:
    """The prunable weights of a model, sorted by name; a weight shared by several layers stands once.

    Raises CheckpointError when there is none, when the blocks hold more than a little of their weights in a form that
    is neither a linear layer nor a stack of experts, when attention is repeated outside of them, and when a stack has
    matrices that no expert uses: silence would make every sparsity a wrong number.
    """
    embeddings = {id(parameter) for module in _embeddings(model) for parameter in module.parameters()}
    found: dict[int, PrunableWeight] = {}
    unknown: dict[int, tuple[str, int]] = {}
    every = list(blocks(model.base_model))
    for layer, (block_path, block) in enumerate(every):
        for path, module in block.named_modules():
            chain = list(_chain(block, path))
            for leaf, parameter in module.named_parameters(recurse=False):
                if parameter.ndim < 2 or id(parameter) in embeddings or id(parameter) in found:
                    continue
                name = f"{path}.{leaf}".strip(".")
                input_dim = _input_dim(module, leaf, parameter, chain)
                if input_dim is None:
                    if _is_unknown(module, leaf, parameter, chain):
                        unknown[id(parameter)] = (f"{block_path}.{name}", parameter.numel())
                    continue
                found[id(parameter)] = PrunableWeight(
                    name=f"{block_path}.{name}",
                    layer=layer,
                    role=".".join(part for part in name.removesuffix(".weight").split(".") if not part.isdigit()),
                    sublayer=_sublayer(chain),
                    shape=tuple(parameter.shape),
                    input_dim=input_dim,
                )
    weights = sorted(found.values(), key=lambda weight: weight.name)
    _check(model, weights, list(unknown.values()))
    _check_attention(model, [block for _, block in every])
    _check_stacks(model, weights)
    return weights


def prunable_parameters(model: torch.nn.Module) -> list[tuple[PrunableWeight, torch.Tensor]]:
    """(description, the tensor itself) of every prunable weight of a loaded model."""
    own = parameters(model)
    return [(weight, own[weight.name].data) for weight in find_prunable(model)]


def parameters(model: PreTrainedModel) -> dict[str, nn.Parameter]:
    """The prunable parameters themselves, by name, in the order of `find_prunable`."""
    named = dict(model.base_model.named_parameters())
    return {weight.name: named[weight.name] for weight in find_prunable(model)}


def name_base_(model: PreTrainedModel) -> None:
    """Tell a model with a head which of its parts is the base model, where its class names one that it does not have.

    Llama 4's of texts names that of its images and texts: all its weights would have other names than without the head.
    """
    parts = [name for name, part in model.named_children() if isinstance(part, PreTrainedModel)]
    if model.base_model is model and len(parts) == 1 and model.get_output_embeddings() is not None:
        model.base_model_prefix = parts[0]


def blocks(base: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The repeated transformer blocks in module order.

    A block is an element of a list of layers, all of one class or all made for gradient checkpointing, in which
    attention occurs below the element. Only the innermost count: Swin's stages hold blocks, ALBERT's groups hold
    layers. T5's list of sub-layers inside a block is neither of one class nor checkpointed, so it does not match.
    """
    candidates: dict[int, nn.Module] = {}
    for module in base.modules():
        if isinstance(module, nn.ModuleList | nn.Sequential) and len(module) and _repeats(module):
            candidates |= {id(element): element for element in module}
    for path, module in base.named_modules():
        if id(module) in candidates and not any(id(m) in candidates for m in module.modules() if m is not module):
            yield path, module


def _repeats(layers: nn.ModuleList | nn.Sequential) -> bool:
    alike = len({type(layer) for layer in layers}) == 1
    checkpointed = all(isinstance(layer, GradientCheckpointingLayer) for layer in layers)
    return (alike or checkpointed) and any(_has_attention(layer) for layer in layers)


def _has_attention(layer: nn.Module) -> bool:
    return any(
        path and ATTENTION.search(path.rpartition(".")[2] + " " + type(module).__name__)
        for path, module in layer.named_modules()
    )


def _sublayer(chain: list[tuple[str, nn.Module]]) -> str:
    """The innermost module that is called one or the other decides: Zamba's attention layer has an MLP in it."""
    for attribute, part in reversed(chain):
        if MLP.search(attribute):
            return "mlp"
        if ATTENTION.search(f"{attribute} {type(part).__name__}"):
            return "attention"
    return "mlp"


def _chain(block: nn.Module, path: str) -> Iterator[tuple[str, nn.Module]]:
    """(attribute, module) for each step from below the block down to the module at `path`."""
    module = block
    for attribute in path.split(".") if path else ():
        module = getattr(module, attribute)
        yield attribute, module


def _input_dim(module: nn.Module, leaf: str, parameter: torch.Tensor, chain: list) -> int | None:
    """The dimension that indexes inputs, or None when the parameter is not a projection."""
    if any(NOT_A_PROJECTION.search(attribute + " " + type(part).__name__) for attribute, part in chain):
        return None
    if isinstance(module, Conv1D) and leaf == "weight":
        return 0
    if isinstance(module, nn.Linear) and leaf == "weight":
        around = [part for _, part in chain[:-1]]  # HunYuan's router is a linear layer in a module of its own
        inside = any(EXPERTS.search(attribute) for attribute, _ in chain)
        counts = _expert_counts(around[-1] if around else None)
        counts = counts.union(*map(_expert_counts, [] if inside else around))
        return None if parameter.shape[0] == 1 or parameter.shape[0] in counts else 1
    if isinstance(module, nn.MultiheadAttention) and leaf.endswith("proj_weight"):
        return 1
    if parameter.ndim == 3 and _is_plain(module):
        if hasattr(module, "is_transposed"):  # set by transformers on every class of merged experts
            return 1 if module.is_transposed else 2
        if type(module).__name__ in STACKS:
            return None if NOT_A_MATRIX.search(leaf) else STACKS[type(module).__name__]
        if any(EXPERTS.search(attribute + " " + type(part).__name__) for attribute, part in chain):
            return 2
    return None


def _expert_counts(parent: nn.Module | None) -> set[int]:
    """How many experts stand beside a linear layer: one with that many outputs is the router, where no other is."""
    children = list(parent.named_children()) if parent is not None else []
    counts = set()
    if any("router" in f"{attribute} {type(child).__name__}".lower() for attribute, child in children):
        return counts  # Nemotron's projections into a latent space may be as wide as it has experts
    for attribute, child in children:
        if EXPERTS.search(attribute):
            counts |= {len(child)} if isinstance(child, nn.ModuleList | nn.ModuleDict) else set()
            counts |= {p.shape[0] for p in child.parameters(recurse=False) if p.ndim == 3}
    return counts


def _is_plain(module: nn.Module) -> bool:
    """Whether a module's parameters are its own, not those of a torch layer (embedding, convolution, norm)."""
    return not type(module).__module__.startswith("torch.") and not isinstance(module, Conv1D | nn.Embedding)


def _is_unknown(module: nn.Module, leaf: str, parameter: torch.Tensor, chain: list) -> bool:
    """Whether a parameter that is not prunable may be a projection all the same, for all that is known of it."""
    if any(NOT_A_PROJECTION.search(attribute + " " + type(part).__name__) for attribute, part in chain):
        return False
    if NOT_A_PROJECTION.search(leaf) or NOT_A_MATRIX.search(leaf):
        return False
    if isinstance(module, nn.modules.conv._ConvNd):  # a linear layer where it sees one place, and other channels there
        return parameter.shape[1] > 1 and all(size == 1 for size in module.kernel_size)
    return _is_plain(module) or isinstance(module, nn.Embedding)  # Doge keeps its experts in embeddings


def _embeddings(model: PreTrainedModel) -> Iterator[nn.Module]:
    for part in {id(m): m for m in (model, model.base_model)}.values():
        for name in ("get_input_embeddings", "get_output_embeddings"):
            try:
                module = getattr(part, name)()
            except (AttributeError, NotImplementedError):  # vision and composite models need not have them
                continue
            if isinstance(module, nn.Module):
                yield module


def _check(model: PreTrainedModel, weights: list[PrunableWeight], unknown: list[tuple[str, int]]) -> None:
    kind = type(model).__name__
    if not weights:
        raise CheckpointError(
            f"{kind} has no prunable weights: no list of repeated blocks with attention and linear layers was found. "
            "Only transformers built of such blocks can be pruned here."
        )
    counted, size = sum(math.prod(weight.shape) for weight in weights), sum(size for _, size in unknown)
    if size > UNKNOWN * (counted + size):
        names = files.some(sorted(name for name, _ in unknown))
        raise CheckpointError(
            f"{kind} keeps {size / (counted + size):.0%} of its blocks in parameters of unknown role ({names}), neither linear layers nor "
            "stacks of experts: pruning only the rest would misstate every sparsity. It is not supported."
        )


def _check_attention(model: PreTrainedModel, found: list[nn.Module]) -> None:
    """Refuse attention that is repeated beside the blocks instead of in them (BLT's, between bytes and patches)."""
    inside = {id(module) for block in found for module in block.modules()}
    for path, module in model.base_model.named_modules():
        if not isinstance(module, nn.ModuleList) or id(module) in inside:
            continue
        if any(
            ATTENTION.search(type(layer).__name__) and inside.isdisjoint(map(id, layer.modules())) for layer in module
        ):
            raise CheckpointError(
                f"{type(model).__name__} has attention outside of its blocks ({path}): pruning only the blocks would misstate "
                "every sparsity. It is not supported."
            )


def _check_stacks(model: PreTrainedModel, weights: list[PrunableWeight]) -> None:
    """Refuse a module whose stacks are of different lengths: of the longer ones some are never used (LongCat's)."""
    lengths: dict[str, set[int]] = {}
    for weight in weights:
        if len(weight.shape) == 3:
            lengths.setdefault(weight.name.rpartition(".")[0], set()).add(weight.shape[0])
    for name, found in lengths.items():
        if len(found) > 1:
            raise CheckpointError(
                f"{type(model).__name__} has stacks of {' and '.join(map(str, sorted(found)))} matrices in {name}: some belong to no "
                "expert, and counting them would misstate every sparsity. It is not supported."
            )
