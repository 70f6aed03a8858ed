"""Blocks one after the other with the inputs of many batches: what they are given is what the model's own pass gives them."""

import contextlib
import copy
import types

import pytest
import torch
import transformers as hf
from test_prunable_zoo import ZOO, build
from torch import nn
from torch.utils._pytree import tree_leaves, tree_map

from essential_sparsity.checkpoints import prunable
from essential_sparsity.pruning import moving, walking
from essential_sparsity.pruning.inputs import Watching
from essential_sparsity.pruning.matrices import matrices
from essential_sparsity.pruning.walking import walk

# encoder-decoders and towers need other inputs, and no task is for them; switch is an encoder-decoder as well
FAMILIES = [name for name in ZOO if not name.startswith(("t5", "switch", "whisper", "clip"))]


def model_of(name):
    torch.manual_seed(3)
    found = build(copy.deepcopy(ZOO[name][0]), device="cpu").eval()  # tests change its configuration
    for parameter in found.parameters():
        nn.init.normal_(parameter, std=0.3)
    return found


def batches_of(model, count=3, size=2):
    draw = torch.Generator().manual_seed(5)
    if model.main_input_name == "input_ids":
        return [{"input_ids": torch.randint(3, 50, (size, 7), generator=draw)} for _ in range(count)]
    side = model.config.image_size
    batches = [{"pixel_values": torch.randn(size, 3, side, side, generator=draw)} for _ in range(count)]
    if isinstance(model.config, hf.ViTMAEConfig):  # else it leaves out patches at random
        batches = [batch | {"noise": torch.arange(4.0).expand(size, 4)} for batch in batches]
    return batches


def matrices_of(model):
    own = prunable.parameters(model)
    return list(matrices((weight, own[weight.name]) for weight in prunable.find_prunable(model)))


def hidden(value):
    return value[0] if isinstance(value, tuple | list) else value


def recorded(model, batches):
    """Path of a block -> the first output for each batch, in the model's own forward pass."""
    found = {}
    hooks = [
        block.register_forward_hook(lambda _, __, out, path=path: found.setdefault(path, []).append(hidden(out)))
        for path, block in prunable.blocks(model.base_model)
    ]
    with torch.no_grad():
        for batch in batches:
            walking.whole(model)(**batch)
    for hook in hooks:
        hook.remove()
    return found


@pytest.mark.parametrize("name", FAMILIES)
def test_every_block_gives_what_it_gives_in_the_forward_pass_bit_for_bit(name):
    model = model_of(name)
    batches = batches_of(model)
    found = {}
    model.set_experts_implementation("eager")
    expected = recorded(model, batches)
    walk(
        model,
        batches,
        "cpu",
        lambda seen: found.setdefault(seen.path, []).extend(map(hidden, seen.outputs())),
        once=False,
    )
    assert list(found) == list(expected) == [path for path, _ in prunable.blocks(model.base_model)]
    for path, outputs in expected.items():
        count, times = len(batches), len(outputs) // len(batches)  # ALBERT passes its one block twice
        in_order = [outputs[batch * times + time] for time in range(times) for batch in range(count)]
        for one, other in zip(found[path], in_order, strict=True):
            assert torch.equal(one, other)


class OnCard(torch.Tensor):
    """A tensor of another device: nothing can be computed with it outside of a block."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise RuntimeError("Expected all tensors to be on the same device")


@pytest.fixture
def card(monkeypatch):
    """A GPU as `walk` sees one: blocks give what is on it. What was brought back to the host, and what of it to the GPU."""
    original, back, there = walking.Visit.outputs, [], []

    def on_host(value):
        return tree_map(lambda part: part.held if type(part) is OnCard else part, value)

    def moved(value, device):
        if device.type == "cpu":
            back.append(1)
        else:
            there.extend(
                part for part in tree_leaves(value) if type(part) is torch.Tensor and not hasattr(part, "there")
            )
        return on_host(value)

    def brought(part, device):
        if type(part) is torch.Tensor:
            there.append(part)
        found = on_host(part).view_as(part)
        found.there = True
        return found

    def on_card(part):
        if not isinstance(part, torch.Tensor):
            return part
        found = torch.Tensor._make_wrapper_subclass(OnCard, part.shape, dtype=part.dtype)
        found.held = part
        return found

    def outputs(self):
        for answer in original(self):
            yield tree_map(on_card, answer)

    monkeypatch.setattr(moving, "moved", moved)
    monkeypatch.setattr(moving, "there", brought)
    monkeypatch.setattr(moving, "Away", lambda *_: types.SimpleNamespace(leave=lambda: None, back=lambda: None))
    monkeypatch.setattr(walking.Visit, "outputs", outputs)
    monkeypatch.setattr(walking, "_elsewhere", lambda value: type(value) is OnCard)
    monkeypatch.setattr(walking, "_room", lambda *_: True)
    return types.SimpleNamespace(back=back, there=there, on_host=on_host)


@pytest.mark.parametrize("name", FAMILIES)
def test_what_blocks_hand_over_stays_on_a_gpu_where_the_model_computes_nothing_in_between(name, card):
    model = model_of(name)
    model.set_experts_implementation("eager")
    batches, found = batches_of(model), {}
    expected = recorded(model, batches)

    def visit(seen):
        found.setdefault(seen.path, []).extend(hidden(card.on_host(output)) for output in seen.outputs())

    walk(model, batches, "cuda", visit, once=False)
    for path, outputs in expected.items():
        count, times = len(batches), len(outputs) // len(batches)
        in_order = [outputs[batch * times + time] for time in range(times) for batch in range(count)]
        for one, other in zip(found[path], in_order, strict=True):
            assert torch.equal(one, other)
    if name == "llama":  # the first batch of each block, and all at the last, before the norm
        assert len(card.back) == len(found) - 1 + len(batches)
        # once: what the first block is given, places of tokens and two tables of their angles; later all is there
        assert len(card.there) == 4 * len(batches)


@pytest.mark.parametrize("change", [None, "anew", "in its place"])
def test_what_all_blocks_are_given_is_moved_again_where_it_changed(card, change):
    model = model_of("llama")
    batches = batches_of(model)

    def run(self, input_ids=None, **kwargs):
        hidden, angles = self.embed_tokens(input_ids), self.rotary_emb(torch.zeros(1), torch.arange(7)[None])
        for layer in self.layers:
            hidden = layer(hidden, position_embeddings=angles)
            if change == "anew":
                angles = tuple(table * 0.5 for table in angles)
            elif change:
                angles[1].mul_(0.5)
        return hidden

    model.base_model.forward = run.__get__(model.base_model)
    expected, found = recorded(model, batches), {}

    def visit(seen):
        found.setdefault(seen.path, []).extend(hidden(card.on_host(output)) for output in seen.outputs())

    walk(model, batches, "cuda", visit, once=False)
    for path, outputs in expected.items():
        assert all(torch.equal(one, other) for one, other in zip(found[path], outputs, strict=True))
    once = 3 * len(batches)  # what the first block is given, and two tables
    assert len(card.there) > once if change else len(card.there) == once


def test_what_stayed_comes_back_where_the_model_needs_it_later(card):
    """A model that adds what its first block gave to what its second one gives."""

    model = model_of("llama")
    first, second = model.base_model.layers
    batches = batches_of(model)

    def run(self, input_ids=None, **kwargs):
        inputs = self.embed_tokens(input_ids)
        tables = self.rotary_emb(inputs, torch.arange(inputs.shape[1])[None])
        one = first(inputs, position_embeddings=tables)
        two = second(one, position_embeddings=tables)
        return two + one

    model.base_model.forward = run.__get__(model.base_model)
    with torch.no_grad():
        expected = [walking.whole(model)(**batch) for batch in batches]
    ends = []
    model.base_model.forward = lambda **given: ends.append(run(model.base_model, **given))
    walk(model, batches, "cuda", lambda seen: None, once=False)
    assert all(torch.equal(one, other) for one, other in zip(ends, expected, strict=True))


def test_everything_comes_back_where_a_gpu_has_no_room(card, monkeypatch):
    monkeypatch.setattr(walking, "_room", lambda *_: False)
    monkeypatch.setattr(moving.Carried, "know", None)  # which would keep it there
    model, seen = model_of("llama"), []

    def visit(own):
        seen.append(own.path)
        given = [part for part in tree_leaves(own._calls) if isinstance(part, torch.Tensor)]
        assert not any(hasattr(part, "there") or type(part) is OnCard for part in given)

    walk(model, batches_of(model), "cuda", visit, once=False)
    assert len(card.back) == len(seen) * len(batches_of(model))


def test_room_is_asked_for_all_batches_and_the_largest_block(card, monkeypatch):
    asked, model = [], model_of("swin")
    monkeypatch.setattr(walking, "_room", lambda answer, *rest: asked.append(rest) or True)
    walk(model, batches_of(model), "cuda", lambda seen: None, once=False)
    sizes = [sum(part.nbytes for part in own.parameters()) for _, own in prunable.blocks(model.base_model)]
    assert len(set(sizes)) > 1
    assert set(asked) == {(len(batches_of(model)), torch.device("cuda"), max(sizes))}
    assert len(asked) == 2 * len(sizes)


@pytest.mark.parametrize("once", [True, False])
def test_weights_leave_as_a_visit_left_them_and_are_back_after_the_outputs(card, monkeypatch, once):
    told, model, outputs = [], model_of("llama"), walking.Visit.outputs

    def away(*_):
        told.append("there")
        return types.SimpleNamespace(leave=lambda: told.append("leaves"), back=lambda: told.append("back"))

    def given(self):
        for answer in outputs(self):
            told.append("output")
            yield answer

    monkeypatch.setattr(moving, "Away", away)
    monkeypatch.setattr(walking.Visit, "outputs", given)
    walk(model, batches_of(model), "cuda", lambda seen: told.append("visited"), once=once)
    first, last = (["there", "visited", "leaves", *["output"] * count, "back"] for count in (3, 1 if once else 3))
    assert told == first + last


@pytest.mark.parametrize(("free", "stays"), [(3 * 4 * 80 + 7 + 1, True), (3 * 4 * 80 + 7, False)])
def test_only_where_it_has_room(monkeypatch, free, stays):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free - 30, 10**12))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 50)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 20)
    answer = (torch.zeros(2, 5, dtype=torch.float64), None)
    assert walking._room(answer, 4, torch.device("cuda"), 7) is stays
    assert not walking._room(answer, 4, torch.device("cpu"), 7)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_inputs_of_every_matrix_are_seen(name):
    model = model_of(name)
    model.set_experts_implementation("eager")  # as the walk has them: another order of additions is another last digit
    batches, tokens, own = batches_of(model), {}, matrices_of(model)
    products = {}

    def take(matrix, values):
        tokens[matrix.name] = tokens.get(matrix.name, 0) + len(values)
        products.setdefault(matrix.name, []).append(values)

    def visit(seen):
        with Watching([m for m in own if m.weight.name.startswith(f"{seen.path}.")], take):
            for _ in seen.outputs():
                pass

    walk(model, batches, "cpu", visit, once=False)
    unseen = {matrix.name for matrix in own} - set(tokens)
    assert all("experts" in name for name in unseen)
    of_layers = {f"{name}.weight": m for name, m in model.base_model.named_modules() if isinstance(m, nn.Linear)}
    hooked = {}
    hooks = [
        layer.register_forward_pre_hook(lambda _, args, name=name: hooked.setdefault(name, []).append(args[0]))
        for name, layer in of_layers.items()
    ]
    with torch.no_grad():
        for batch in batches:
            walking.whole(model)(**batch)
    for hook in hooks:
        hook.remove()
    for name, values in products.items():
        if name in hooked:
            flat = torch.cat([part.reshape(-1, part.shape[-1]) for part in hooked[name]])
            assert sorted(torch.cat(values).sum(1).tolist()) == sorted(flat.sum(1).tolist())


def test_each_expert_sees_its_own_tokens():
    model, tokens = model_of("mixtral"), {}
    own = matrices_of(model)

    def take(matrix, values):
        tokens[matrix.name] = tokens.get(matrix.name, 0) + len(values)

    def visit(seen):
        with Watching([m for m in own if m.weight.name.startswith(f"{seen.path}.")], take):
            list(seen.outputs())

    batches = batches_of(model)
    walk(model, batches, "cpu", visit)
    every = sum(batch["input_ids"].numel() for batch in batches)
    for name in {m.weight.name for m in own if m.part is not None}:
        assert (
            sum(count for key, count in tokens.items() if key.startswith(f"{name}[")) == 2 * every
        )  # two experts a token
    assert len({count for key, count in tokens.items() if "[" in key}) > 1


def test_experts_that_are_multiplied_at_once_see_their_own_tokens():
    """Llama 4 has a row for each token and expert, of zeros where the token does not come to it."""
    model, seen, routed = model_of("llama4"), {}, {}
    own, found = matrices_of(model), dict(prunable.blocks(model.base_model))

    def take(matrix, values):
        seen.setdefault(matrix.name, []).append(values)

    def visit(at):
        given = []
        hook = found[at.path].feed_forward.register_forward_pre_hook(
            lambda _, args: given.append(args[0].flatten(0, 1))
        )
        with Watching([m for m in own if m.weight.name.startswith(f"{at.path}.")], take):
            list(at.outputs())
        hook.remove()
        routed[at.path] = torch.cat(given)

    walk(model, batches_of(model), "cpu", visit)
    with torch.no_grad():
        for path, values in routed.items():
            feed = found[path].feed_forward
            chosen = (values @ feed.router.weight.T).max(dim=1)
            assert len(set(chosen.indices.tolist())) > 1
            for expert in range(4):
                mine = chosen.indices == expert
                inputs = values[mine] * chosen.values[mine].sigmoid()[:, None]
                gate, up = (inputs @ feed.experts.gate_up_proj[expert]).chunk(2, dim=1)
                for role, expected in (("gate_up_proj", inputs), ("down_proj", up * feed.experts.act_fn(gate))):
                    given = torch.cat(seen[f"{path}.feed_forward.experts.{role}[{expert}]"])
                    torch.testing.assert_close(given, expected)


def matrix_of(*shape, input_dim=None):
    weight = prunable.PrunableWeight("w", 0, "w", "mlp", shape, len(shape) - 1 if input_dim is None else input_dim)
    return list(matrices([(weight, nn.Parameter(torch.randn(shape)))]))


@pytest.mark.parametrize(
    "product",
    [
        lambda values, own: nn.functional.linear(values, own),
        lambda values, own: nn.functional.linear(input=values, weight=own),
        lambda values, own: torch.addmm(torch.zeros(4), values, own.T),
        lambda values, own: torch.addmm(torch.zeros(4), mat1=values, mat2=own.T),
        lambda values, own: values @ own.T,
        lambda values, own: values.matmul(own.T),
        lambda values, own: torch.mm(values, own.T),
        lambda values, own: values.mm(own.T),
        lambda values, own: torch.matmul(values, own.T),
    ],
)
def test_a_product_is_seen_with_its_inputs_and_with_nothing_else(product):
    (matrix,), values, seen = matrix_of(4, 6), torch.randn(5, 6), []
    with Watching([matrix], lambda own, found: seen.append((own, found))):
        product(values, matrix.stored)
    ((own, found),) = seen
    assert own is matrix
    assert torch.equal(found, values)


def test_what_is_no_input_of_a_matrix_is_not_taken_for_one():
    """A tied decoder multiplies its outputs with the same tensor, a whole stack begins where its first matrix does, …"""
    (matrix,), (first, second), seen = matrix_of(4, 6), matrix_of(2, 4, 6), []
    with Watching([matrix, first, second], lambda own, found: seen.append((own.name, len(found)))):
        nn.functional.linear(torch.randn(3, 4), matrix.stored.T)  # its outputs
        nn.functional.linear(torch.randn(3, 6), matrix.stored[:2])  # a part of it
        nn.functional.linear(torch.randn(3, 6), torch.randn(4, 6))  # another
        torch.randn(2, 3, 6) @ first.stored.transpose(1, 2)  # all experts at once
        assert not seen
        nn.functional.linear(torch.randn(2, 4, 6), second.tensor())
    assert seen == [("w[1]", 8)]


@pytest.mark.parametrize("experts", [1, 2])
@pytest.mark.parametrize("named", [True, False])
def test_stacks_of_experts_are_seen_also_of_one_expert(experts, named):
    """Which has every token: where several have, it is not told which tokens come to which."""
    own, values, seen = matrix_of(experts, 6, 4, input_dim=1), torch.randn(experts, 5, 6), []
    stack = own[0].stored
    with Watching(own, lambda matrix, found: seen.append((matrix.name, found))):
        torch.bmm(values, mat2=stack) if named else torch.bmm(values, stack)
        assert len(seen) == (experts == 1)
        if experts == 1:
            assert torch.equal(seen[0][1], values[0])
            return
        values[0, 2:] = values[1, :2] = 0
        torch.bmm(values, stack)
        torch.bmm(values, stack[:, :, :2])  # a part of each
    assert [(name, len(found)) for name, found in seen] == [("w[0]", 2), ("w[1]", 3)]


def test_what_a_visit_changes_decides_the_inputs_of_the_next_block():
    model = model_of("llama")
    batches = batches_of(model)
    changed = model_of("llama")
    for _, tensor in prunable.prunable_parameters(changed):
        tensor.mul_(tensor.abs() > 0.2)
    expected, found = recorded(changed, batches), {}

    def visit(seen):
        for weight in prunable.find_prunable(model):
            if weight.name.startswith(f"{seen.path}."):
                tensor = prunable.parameters(model)[weight.name].data
                tensor.mul_(tensor.abs() > 0.2)
        found[seen.path] = list(map(hidden, seen.outputs()))

    walk(model, batches, "cpu", visit)
    for path, outputs in expected.items():
        assert all(torch.equal(one, other) for one, other in zip(found[path], outputs, strict=True))


def test_the_model_is_as_it_was_afterwards_and_no_thread_is_left():
    import threading

    model = model_of("bert")
    batches, before = batches_of(model), threading.active_count()
    expected = recorded(model, batches)

    def stops(seen):
        if seen.path.endswith("1"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        walk(model, batches, "cpu", stops)
    assert threading.active_count() == before
    after = recorded(model, batches)
    assert all(torch.equal(a, b) for path in expected for a, b in zip(after[path], expected[path], strict=True))


@pytest.mark.parametrize("ends", ["at the last block", "by an error"])
def test_experts_are_multiplied_as_before_again(ends):
    model = model_of("mixtral")
    model.set_experts_implementation("batched_mm")

    def visit(seen):
        assert model.get_experts_implementation() == {"": "eager"}
        if ends == "by an error":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) if ends == "by an error" else contextlib.nullcontext():
        walk(model, batches_of(model), "cpu", visit)
    assert model.get_experts_implementation() == {"": "batched_mm"}


def test_a_block_that_is_passed_twice_has_no_inputs_of_pruned_blocks():
    model = model_of("albert")
    with pytest.raises(prunable.CheckpointError, match=r"passes its block .* more than once.*wanda-onepass"):
        walk(model, batches_of(model), "cpu", lambda seen: None)


def test_what_goes_wrong_in_the_model_is_raised_as_it_is():
    model = model_of("bert")
    with pytest.raises(IndexError):
        walk(model, [{"input_ids": torch.tensor([[1, 99]])}], "cpu", lambda seen: None)


def with_layers(model, chosen):
    """The model with another forward pass: through the layers that `chosen` makes of (its layers, input_ids)."""

    def forward(self, input_ids=None, **kwargs):
        layers = self.layers
        try:
            self.layers = chosen(layers, input_ids)
            return hf.LlamaModel.forward(self, input_ids=input_ids, **kwargs)
        finally:
            self.layers = layers

    model.forward = forward.__get__(model)
    return model


def test_batches_that_leave_blocks_out_by_their_input_are_refused():
    model = with_layers(model_of("llama"), lambda layers, ids: layers[int(ids[0, 0]) % 2 :])
    batches = [{"input_ids": torch.tensor([[4, 5]])}, {"input_ids": torch.tensor([[5, 5]])}]
    with pytest.raises(prunable.CheckpointError, match="two batches of calibration come to different blocks"):
        walk(model, batches, "cpu", lambda seen: None)


def test_a_block_that_no_batch_comes_to_is_refused():
    model = with_layers(model_of("llama"), lambda layers, _: layers[:1])
    with pytest.raises(prunable.CheckpointError, match=r"does not come to its block layers\.1"):
        walk(model, batches_of(model), "cpu", lambda seen: None)


@pytest.mark.parametrize("order", [(0, 0, 1), (0, 1, 0)])
def test_a_block_that_comes_again_is_refused_wherever_that_is(order):
    model = with_layers(model_of("llama"), lambda layers, _: nn.ModuleList(layers[place] for place in order))
    model.config.num_hidden_layers = 3
    with pytest.raises(prunable.CheckpointError, match=r"passes its block layers\.0 more than once"):
        walk(model, batches_of(model), "cpu", lambda seen: None)
