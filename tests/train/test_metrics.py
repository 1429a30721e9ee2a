"""Pooled confusion counts and losses, over batches, resumed epochs and processes."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn import metrics as sklearn_metrics

from train.metrics import PooledConfusion, scores

from .pixels import IGNORE, NAMES, batches, count, pooled_pixels

# Counts


@pytest.mark.parametrize(("num_classes", "num_labels"), [(1, 2), (2, 2), (3, 3)])
@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8])
def test_counts_are_scikit_learns_confusion_matrix(num_classes, num_labels, dtype):
    pairs = [(prediction.to(dtype), target.to(dtype)) for prediction, target in batches(num_labels)]
    confusion = count(pairs, num_classes).confusion
    prediction, target = pooled_pixels(pairs)
    assert confusion.dtype == torch.int64
    expected = sklearn_metrics.confusion_matrix(target, prediction, labels=range(num_labels))
    np.testing.assert_array_equal(confusion.numpy(), expected)


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8])
def test_many_classes_do_not_overflow_the_labels_dtype(dtype):
    generator = torch.Generator().manual_seed(0)
    prediction, target = (torch.randint(0, 20, (5, 40), generator=generator) for _ in range(2))
    confusion = PooledConfusion(20, ignore_index=-242)  # 14 in uint8
    confusion.update(prediction.to(dtype), target.to(dtype))
    expected = sklearn_metrics.confusion_matrix(target.flatten(), prediction.flatten(), labels=range(20))
    np.testing.assert_array_equal(confusion.confusion.numpy(), expected)


def test_counts_do_not_depend_on_the_batches():
    pairs = batches(3)
    whole = [(torch.cat([p.flatten() for p, _ in pairs]), torch.cat([t.flatten() for _, t in pairs]))]
    assert torch.equal(count(pairs, 3).confusion, count(whole, 3).confusion)


def test_counts_beyond_what_float32_can_hold():
    confusion = PooledConfusion(1, ignore_index=IGNORE)
    confusion.load_state_dict({"counts": torch.tensor([2**24, 0, 0, 2**40, 0]), "loss": torch.zeros(2)})
    confusion.update(torch.tensor([0, 1]), torch.tensor([0, 1]))
    assert confusion.confusion.tolist() == [[2**24 + 1, 0], [0, 2**40 + 1]]


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.999])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_binary_logits_are_compared_with_a_probability(threshold, dtype):
    logits = torch.linspace(-8, 8, 300).reshape(2, 1, 10, 15).to(dtype)
    target = torch.arange(300).reshape(2, 10, 15) % 2
    confusion = PooledConfusion(1, ignore_index=IGNORE)
    confusion.update_from_logits(logits, target, threshold=threshold)
    expected = count([((logits[:, 0].double().sigmoid() > threshold).long(), target)], 1)
    assert torch.equal(confusion.confusion, expected.confusion)


def test_a_probability_of_exactly_one_half_is_background():
    confusion = PooledConfusion(1, ignore_index=IGNORE)
    confusion.update_from_logits(torch.tensor([[[[0.0, 1e-6, -1e-6]]]]), torch.ones(1, 1, 3, dtype=torch.uint8))
    assert confusion.confusion.tolist() == [[0, 0], [2, 1]]


def test_multiclass_logits_choose_the_highest():
    logits = torch.randn(2, 3, 8, 9, generator=torch.Generator().manual_seed(0))
    _, target = batches(3)[2]
    confusion = PooledConfusion(3, ignore_index=IGNORE)
    confusion.update_from_logits(logits, target)
    prediction = torch.from_numpy(logits.numpy().argmax(axis=1))
    assert torch.equal(confusion.confusion, count([(prediction, target)], 3).confusion)


@pytest.mark.parametrize("ignore_index", [-100, -1, 3, 255])
def test_ignored_pixels_are_not_counted_whatever_their_prediction(ignore_index):
    confusion = PooledConfusion(3, ignore_index=ignore_index)
    target = torch.tensor([0, ignore_index, 2, ignore_index, ignore_index])
    confusion.update(torch.tensor([0, 1, 2, 255, -7]), target)
    assert confusion.confusion.tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 1]]


@pytest.mark.parametrize(("prediction", "target"), [(0, 2), (2, 0), (-1, 0), (1, -1), (0, 7)])
def test_a_stray_label_or_prediction_is_an_error_and_lands_in_no_other_cell(prediction, target):
    confusion = PooledConfusion(1, ignore_index=IGNORE)
    confusion.update(torch.tensor([1, prediction]), torch.tensor([1, target]))
    with pytest.raises(ValueError, match=r"1 pixels have a label or prediction outside 0\.\.1"):
        _ = confusion.confusion
    confusion.reset()
    assert confusion.confusion.tolist() == [[0, 0], [0, 0]]


def test_arguments_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="ignore_index 2 is also a class"):
        PooledConfusion(3, ignore_index=2)
    confusion = PooledConfusion(1, ignore_index=IGNORE)
    target = torch.zeros(2, 3, 3, dtype=torch.int64)
    with pytest.raises(ValueError, match="differ in shape"):
        confusion.update(torch.zeros(1, 3, 3, dtype=torch.int64), target)
    with pytest.raises(ValueError, match="don't have 1 channels"):
        confusion.update_from_logits(torch.zeros(2, 3, 3, 3), target)
    with pytest.raises(ValueError, match="threshold must be between 0 and 1"):
        confusion.update_from_logits(torch.zeros(2, 1, 3, 3), target, threshold=1.0)
    with pytest.raises(ValueError, match="5 saved counts don't fit 3 classes"):
        PooledConfusion(3, ignore_index=IGNORE).load_state_dict(confusion.state_dict())
    with pytest.raises(ValueError, match="don't fit 2 classes"):
        scores(confusion.confusion, NAMES, target_only=True)
    with pytest.raises(ValueError, match="don't fit 3 classes"):
        scores(torch.eye(3), NAMES, target_only=True)


def test_reset_forgets_counts_and_loss():
    confusion = count(batches(2), 1)
    confusion.update_loss(torch.tensor(2.0), 5)
    confusion.reset()
    assert confusion.confusion.tolist() == [[0, 0], [0, 0]]
    confusion.update_loss(torch.tensor(1.0), 1)
    assert confusion.loss == 1


# Loss


def test_the_loss_is_the_mean_over_pixels():
    confusion = PooledConfusion(1, ignore_index=IGNORE)
    for loss, valid in ((1.0, 10), (3.0, torch.tensor(30)), (0.5, 0)):
        confusion.update_loss(torch.tensor(loss, requires_grad=True), valid)
    assert confusion.loss == pytest.approx((1 * 10 + 3 * 30) / 40)


def test_a_batch_without_valid_pixels_leaves_no_trace_in_the_loss_even_if_it_is_nan():
    confusion = PooledConfusion(1, ignore_index=IGNORE)
    confusion.update_loss(torch.tensor(2.0), 5)
    confusion.update_loss(torch.tensor(math.nan), 0)
    assert confusion.loss == 2
    confusion.update_loss(torch.tensor(math.nan), 1)
    assert math.isnan(confusion.loss)  # where pixels count, it must show


def test_the_loss_is_weighted_and_summed_in_float64():
    confusion = PooledConfusion(1, ignore_index=IGNORE)
    tenth = torch.tensor(0.1)
    for loss, valid in ((tenth, 12_345_677), (tenth * 7, 3), (tenth * 7, 3)):
        confusion.update_loss(loss, valid)
    expected = (tenth.item() * 12_345_677 + (tenth * 7).item() * 6) / 12_345_683
    assert confusion.loss == pytest.approx(expected, rel=1e-14)


# State


def test_an_interrupted_epoch_goes_on_from_its_state(tmp_path):
    pairs = batches(3)
    unbroken, first, second = (PooledConfusion(3, ignore_index=IGNORE) for _ in range(3))
    for confusion, part in ((unbroken, pairs), (first, pairs[:1])):
        for index, (prediction, target) in enumerate(part):
            confusion.update(prediction, target)
            confusion.update_loss(torch.tensor(0.1 + index), (target != IGNORE).sum())
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for index, (prediction, target) in enumerate(pairs[1:], start=1):
        second.update(prediction, target)
        second.update_loss(torch.tensor(0.1 + index), (target != IGNORE).sum())
    assert torch.equal(second.confusion, unbroken.confusion)
    assert second.loss == unbroken.loss


def test_a_state_is_a_copy():
    confusion = count(batches(2), 1)
    state = confusion.state_dict()
    before = confusion.confusion.clone()
    state["counts"].zero_()
    assert torch.equal(confusion.confusion, before)


def test_counting_leaves_no_graph_behind():
    logits = torch.randn(1, 1, 2, 2, requires_grad=True)
    confusion = PooledConfusion(1, ignore_index=IGNORE)
    confusion.update_from_logits(logits, torch.zeros(1, 2, 2, dtype=torch.int64))
    confusion.update_loss(logits.mean(), 4)
    assert not any(tensor.requires_grad for tensor in confusion.state_dict().values())


# Several processes


def test_one_process_reduces_to_a_copy_of_itself():
    confusion = count(batches(2), 1)
    pooled = confusion.reduce()
    confusion.reset()
    assert pooled.confusion.sum() > 0
    assert confusion.confusion.sum() == 0


WORKER = """
import sys
import torch
from torch import distributed
from train.metrics import PooledConfusion

rank, rendezvous, result = int(sys.argv[1]), sys.argv[2], sys.argv[3]
distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
local = PooledConfusion(1, ignore_index=255)
# Rank 0 has seen two batches, rank 1 one: [[3, 0], [0, 1]] and [[0, 0], [5, 0]].
for prediction, target in [([0, 0, 1], [0, 0, 1]), ([0], [0])] if rank == 0 else [([0] * 5 + [1], [1] * 5 + [255])]:
    local.update(torch.tensor(prediction), torch.tensor(target))
    local.update_loss(torch.tensor(1.0 + rank), (torch.tensor(target) != 255).sum())
pooled, again = local.reduce(), local.reduce()
states = [pooled.confusion, again.confusion, local.confusion]
torch.save((states, [pooled.loss, again.loss, local.loss]), f"{result}{rank}")
distributed.destroy_process_group()
"""


def test_two_processes_reduce_to_the_pixels_of_both(tmp_path):
    # Processes of their own, so that neither inherits the state of this one.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", WORKER]
    workers = [
        subprocess.Popen([*command, str(rank), str(tmp_path / "rendezvous"), str(tmp_path / "result")], env=environment)
        for rank in (0, 1)
    ]
    try:
        assert [worker.wait(timeout=120) for worker in workers] == [0, 0]
    finally:
        for worker in workers:
            worker.kill()
    own = ([[3, 0], [0, 1]], [[0, 0], [5, 0]])
    for rank in (0, 1):
        (pooled, again, local), losses = torch.load(tmp_path / f"result{rank}", weights_only=True)
        assert pooled.tolist() == again.tolist() == [[3, 0], [5, 1]]
        assert local.tolist() == own[rank]
        assert losses == pytest.approx([(4 * 1 + 5 * 2) / 9, (4 * 1 + 5 * 2) / 9, 1.0 + rank])
