"""What goes to a GPU and comes back, where there is none: the copies are told, and made here."""

import pytest
import torch
from torch import nn

from essential_sparsity.pruning import moving

GPU = torch.device("cuda")


@pytest.fixture
def gpu(monkeypatch):
    """Notes what a GPU is asked for: pinned memory, copies, events."""
    asked, to, empty, copy_ = [], torch.Tensor.to, torch.empty, torch.Tensor.copy_

    class Event:
        def record(self, stream):
            asked.append(f"recorded on {stream}")

        def synchronize(self):
            asked.append("waited")

    def moved(self, device, non_blocking=False):
        asked.append(("to", str(device), non_blocking))
        return self.clone() if str(device) == "cuda" else to(self, device)

    def made(*shape, pin_memory=False, **options):
        asked.extend(["pinned"] * pin_memory)
        return empty(*shape, **options)

    def copied(self, other, non_blocking=False):
        asked.append(("copied", non_blocking))
        return copy_(self, other)

    monkeypatch.setattr(torch.Tensor, "to", moved)
    monkeypatch.setattr(torch.Tensor, "copy_", copied)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: (asked.append("pinned"), self)[1])
    monkeypatch.setattr(torch, "empty", made)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"the stream of {device}")
    return asked


def test_large_tensors_go_through_pinned_memory_and_others_as_they_are(gpu):
    large = torch.zeros(512, 512)
    for part, asked in (
        (large, ["pinned", ("to", "cuda", True)]),
        (large[:, 1:], [("to", "cuda", False)]),  # what is expanded cannot be pinned as it is
        (torch.zeros(1, 512).expand(512, 512), [("to", "cuda", False)]),
        (torch.zeros(8), [("to", "cuda", False)]),
    ):
        gpu.clear()
        assert torch.equal(moving.there(part, GPU), part)
        assert gpu == asked
    gpu.clear()
    assert moving.there(large, torch.device("cpu")) is large
    assert gpu == [("to", "cpu", False)]


def test_values_inside_structures_are_moved_and_others_stay_as_they_are(gpu):
    one, two = torch.zeros(2), torch.ones(3)
    found = moving.moved(([one], {"a": two, "b": None, "c": 5, "d": "word"}), GPU)
    assert found[0][0] is not one
    assert torch.equal(found[1]["a"], two)
    assert (found[1]["b"], found[1]["c"], found[1]["d"]) == (None, 5, "word")


def test_what_comes_again_is_moved_once_until_it_changes_or_goes(gpu):
    carried, one, two = moving.Carried(GPU), torch.zeros(4), torch.ones(4)
    first = carried.moved({"one": one, "both": [one, two]})
    assert first["one"] is first["both"][0]
    assert carried.moved(one) is first["one"]
    assert len(gpu) == 2
    one.add_(3)
    assert torch.equal(carried.moved(one), one), "as it is now"
    assert carried.moved(two) is first["both"][1]
    assert carried.moved(one.view(2, 2)).shape == (2, 2)
    del one, two, first
    assert not len(carried.known)


def test_what_a_block_gave_is_known_where_it_came_back(gpu):
    carried, given = moving.Carried(GPU), (torch.ones(2), None, torch.zeros(3))
    back = moving.moved(given, torch.device("cpu"))
    back = (back[0].clone(), None, back[2].clone())
    carried.know(back, given)
    assert carried.moved(back[0]) is given[0]
    assert carried.moved(back[2]) is given[2]
    back[2].add_(1)
    assert torch.equal(carried.moved(back[2]), torch.ones(3))
    assert carried.moved(back[2]) is not given[2]
    of_machine = torch.ones(2)
    carried.know([of_machine], [of_machine])
    assert carried.moved(of_machine) is not of_machine, "what a block gave on the machine is not there"


def block():
    found = nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.Linear(512, 512, bias=False))
    found[2].weight = found[0].weight
    return found.requires_grad_(False)


def test_weights_come_back_into_the_memory_that_they_had(gpu):
    module = block()
    gpu.clear()
    places = {name: (id(part), part.data_ptr()) for name, part in module.state_dict(keep_vars=True).items()}
    before = {name: part.clone() for name, part in module.state_dict().items()}
    away = moving.Away(module, GPU)
    assert gpu.count("pinned") == 1, "a weight that two layers share goes once, small ones as they are"
    for name, part in module.state_dict().items():
        assert part.data_ptr() != places[name][1]
        assert torch.equal(part, before[name])
    module[0].weight.data[:, :7] = 0
    module[1].running_mean.fill_(2)
    gpu.clear()
    away.leave()
    assert gpu[-1] == "recorded on the stream of cuda"
    assert ("copied", True) in gpu
    assert "waited" not in gpu
    module[0].weight.data[0, 9] = 99  # too late
    gpu.clear()
    away.back()
    assert gpu[0] == "waited"
    assert {name: (id(part), part.data_ptr()) for name, part in module.state_dict(keep_vars=True).items()} == places
    assert module[2].weight is module[0].weight
    assert (module[0].weight[:, :7] == 0).all()
    assert torch.equal(module[0].weight[:, 7:], before["0.weight"][:, 7:])
    assert (module[1].running_mean == 2).all()
    assert torch.equal(module[0].bias, before["0.bias"])


def test_on_the_processor_nothing_moves(gpu):
    module = block()
    gpu.clear()
    places = [part.data_ptr() for part in module.state_dict().values()]
    away = moving.Away(module, torch.device("cpu"))
    away.leave()
    away.back()
    assert gpu == []
    assert [part.data_ptr() for part in module.state_dict().values()] == places
