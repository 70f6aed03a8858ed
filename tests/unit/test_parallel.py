"""Order, laziness and errors of work spread over threads."""

import threading

import pytest
import torch

from essential_sparsity.pruning import parallel, spectrum


@pytest.fixture(params=[1, 3])
def threads(request, monkeypatch):
    monkeypatch.setattr(parallel.torch, "get_num_threads", lambda: request.param)
    return request.param


def test_results_come_in_order_and_few_tasks_are_in_flight(threads):
    taken = []

    def tasks():
        for i in range(50):
            taken.append(i)
            yield i

    results = parallel.in_order(lambda i: i * i, tasks())
    assert next(results) == 0
    assert len(taken) <= threads + 2
    assert list(results) == [i * i for i in range(1, 50)]
    assert list(parallel.in_order(abs, [])) == []


def test_several_threads_take_part(threads):
    gate = threading.Barrier(threads)
    used = set(parallel.in_order(lambda _: (gate.wait(5), threading.get_ident())[1], range(3 * threads)))
    assert len(used) == threads


def test_an_error_in_a_task_reaches_the_caller(threads):
    with pytest.raises(ZeroDivisionError):
        list(parallel.in_order(lambda i: 1 // (5 - i), range(10)))


def test_spans_cover_a_large_tensor_once(threads, monkeypatch):
    monkeypatch.setattr(parallel, "CHUNK", 4)
    for size in (1, 63, 64, 65, 1000):
        tensor = torch.arange(size)
        found = parallel.spans(tensor)
        assert torch.equal(torch.cat([piece for _, piece in found]), tensor)
        assert [int(piece[0]) for _, piece in found] == [start for start, _ in found]
        assert len(found) == (threads if size >= 64 else 1)
    assert len(parallel.spans(torch.empty(10**6, device="meta"))) == 1


def test_a_histogram_is_that_of_one_thread(threads, monkeypatch):
    monkeypatch.setattr(parallel, "CHUNK", 16)
    values = torch.randn(5000, generator=torch.Generator().manual_seed(0))
    plain = torch.bincount((values.view(torch.int32) >> 16) & 0x7FFF, minlength=spectrum.BINS)
    assert (spectrum.histogram(values) == plain.numpy()).all()
