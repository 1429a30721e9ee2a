"""What holds for every loss: of ignored pixels, empty batches, extreme logits, gradients, types and devices."""

import importlib
import math
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from tests.train.every_loss import BINARY, IGNORE, MULTICLASS, SHARED, Case, draw, loss_and_grad, make
from train.losses import LOSSES, build_loss


def of_test_files() -> list[Case]:
    """Return the cases of the losses that have a test file of their own."""
    files = sorted((Path(__file__).parent / "loss_terms").glob("test_*.py"))
    modules = [importlib.import_module(f"tests.train.loss_terms.{file.stem}") for file in files]
    return [case for module in modules for case in getattr(module, "CASES", [])]


ALL = [Case(name, opts) for name, opts in SHARED] + of_test_files()
ALL += [Case(name, opts, (1,)) for name, opts in BINARY] + [Case(name, opts, (3,)) for name, opts in MULTICLASS]
CASES = {
    f"{case.name}-{classes}-{'-'.join(case.opts)}": (case, classes) for case in ALL for classes in case.num_classes
}


def every_loss_but(left_out=lambda num_classes, opts: False, lacks=""):
    """Every loss that isn't exempt from a property, and for which ``left_out`` doesn't hold; each use says why."""
    chosen = [
        pytest.param(case.name, case.opts, classes, id=key)
        for key, (case, classes) in CASES.items()
        if lacks not in case.exempt and not left_out(classes, case.opts)
    ]
    return pytest.mark.parametrize(("name", "opts", "num_classes"), chosen)


every_loss = every_loss_but()


@every_loss
def test_every_loss_is_named_and_a_scalar(name, opts, num_classes):
    logits, target = draw(num_classes)
    value = make(name, opts, num_classes)(logits, target)
    assert name in LOSSES
    assert value.shape == ()
    assert value.item() > 0


def test_every_name_is_tested():
    assert {case.name for case in ALL} == set(LOSSES)


@every_loss
def test_ignored_pixels_change_neither_the_loss_nor_any_gradient(name, opts, num_classes):
    logits, target = draw(num_classes)
    ignored = (target == IGNORE).unsqueeze(1).expand_as(logits)
    loss = make(name, opts, num_classes)
    value, grad = loss_and_grad(loss, logits, target)
    for garbage in (-50.0, math.inf, math.nan):
        other_value, other_grad = loss_and_grad(loss, logits.masked_fill(ignored, garbage), target)
        assert torch.equal(value, other_value)
        assert torch.equal(grad, other_grad)
    assert (grad[ignored] == 0).all()
    assert (grad[~ignored] != 0).any()


# Images have no meaning in a list of pixels; test_lovasz_per_image_... are theirs.
@every_loss_but(lambda _, opts: "per_image" in opts, lacks="order")
def test_ignored_pixels_are_in_no_divider_and_no_smoothing(name, opts, num_classes):
    logits, target = draw(num_classes)
    valid = target != IGNORE
    listed = logits.movedim(1, -1)[valid].T.reshape(1, num_classes, 1, -1)
    loss = make(name, opts, num_classes)
    value, grad = loss_and_grad(loss, logits, target)
    listed_value, listed_grad = loss_and_grad(loss, listed, target[valid].reshape(1, 1, -1))
    assert value.item() == pytest.approx(listed_value.item(), rel=1e-12)
    torch.testing.assert_close(grad.movedim(1, -1)[valid], listed_grad[0, :, 0].T)


@every_loss
def test_a_batch_without_valid_pixels_is_a_graph_connected_zero(name, opts, num_classes):
    logits, target = draw(num_classes, dtype=torch.float32)
    logits.requires_grad_()
    value = make(name, opts, num_classes)(logits, torch.full_like(target, IGNORE))
    assert value.shape == ()
    assert value.item() == 0
    (value * 2**16).backward()  # as under a gradient scaler, which an infinite inner slope would turn into NaN
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize(
    ("name", "opts", "num_classes"),
    [
        ("CELoss", {"class_weights": [0.0, 1.0]}, 1),
        ("DiceLoss", {"smooth": 0.0}, 1),
        ("DiceLoss", {"smooth": 0.0, "classes": [1, 2]}, 3),
        ("DiceLoss", {"smooth": 0.0, "class_weights": [0.0, 1.0, 1.0]}, 3),
        ("LovaszLoss", {"classes": [1, 2]}, 3),
        ("LovaszLoss", {"classes": [1, 2], "per_image": True}, 3),
    ],
)
def test_a_mean_over_nothing_is_zero_and_has_no_slope(name, opts, num_classes):
    logits, target = draw(num_classes, dtype=torch.float32)
    logits.requires_grad_()
    value = make(name, opts, num_classes)(logits, target.masked_fill(target != IGNORE, 0))
    (value * 2**16).backward()
    assert value.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@every_loss
@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_a_batch_of_one_class_is_finite(name, opts, num_classes, label, scale):
    logits, target = draw(num_classes, scale=scale, dtype=torch.float32)
    target = target.masked_fill(target != IGNORE, label)
    value, grad = loss_and_grad(make(name, opts, num_classes), logits, target)
    assert value.isfinite()
    assert value >= 0
    assert grad.isfinite().all()


# Without smoothing, Dice has no slope where the target is absent; [1, 2] has background out of the mean.
@every_loss_but(
    lambda num_classes, opts: opts == {"smooth": 0.0} if num_classes == 1 else opts.get("classes") == [1, 2]
)
def test_a_batch_of_background_teaches_to_leave_it_empty(name, opts, num_classes):
    logits, target = draw(num_classes)
    target = target.masked_fill(target != IGNORE, 0)
    loss = make(name, opts, num_classes)
    logits.requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=0.3)
    for _ in range(60):
        optimizer.zero_grad()
        loss(logits, target).backward()
        optimizer.step()
    predicted = logits[:, 0] > 0 if num_classes == 1 else logits.argmax(1)
    assert (predicted[target != IGNORE] == 0).all()


@every_loss
@pytest.mark.parametrize("right", [True, False])
def test_extreme_logits_stay_finite(name, opts, num_classes, right):
    _, target = draw(num_classes)
    labels = target.masked_fill(target == IGNORE, 0)
    onehot = labels.unsqueeze(1) if num_classes == 1 else F.one_hot(labels, num_classes).movedim(-1, 1)
    logits = (2.0 * onehot - 1) * (1e4 if right else -1e4)
    value, grad = loss_and_grad(make(name, opts, num_classes), logits, target)
    assert value.dtype == torch.float32
    assert value.isfinite()
    assert grad.isfinite().all()
    exempt = next(case.exempt for case in ALL if (case.name, case.opts) == (name, opts))
    if right and "label_smoothing" not in opts and name != "MCCLoss" and "zero" not in exempt:
        assert value.item() == pytest.approx(0, abs=1e-4)


@every_loss
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_computed_in_float32(name, opts, num_classes, dtype):
    logits, target = draw(num_classes, shape=(2, 60, 60), scale=4.0)
    half = logits.to(dtype)
    loss = make(name, opts, num_classes)
    expected, expected_grad = loss_and_grad(loss, half.float(), target)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value, grad = loss_and_grad(loss, half, target)
        inside, _ = loss_and_grad(loss, half.float(), target)
        alone = LOSSES[name](num_classes=num_classes, ignore_index=IGNORE, **opts)(half, target)
    assert value.dtype == torch.float32
    assert torch.equal(alone, expected)
    assert torch.equal(value, expected)
    assert torch.equal(inside, expected)
    assert grad.dtype == dtype
    assert torch.equal(grad, expected_grad.to(dtype))


# A class that the mean leaves out isn't learned.
@every_loss_but(lambda _, opts: opts.get("classes") in ([1, 2], [0, 2]))
def test_descending_the_loss_finds_the_labels(name, opts, num_classes):
    logits, target = draw(num_classes, seed=1)
    logits.requires_grad_()
    loss = make(name, opts, num_classes)
    optimizer = torch.optim.Adam([logits], lr=0.3)
    values = []
    for _ in range(80):
        optimizer.zero_grad()
        values.append(loss(logits, target))
        values[-1].backward()
        optimizer.step()
    predicted = (logits[:, 0] > 0).long() if num_classes == 1 else logits.argmax(1)
    valid = target != IGNORE
    assert torch.equal(predicted[valid], target[valid])
    assert values[40] < values[0]
    assert values[-1] < 0.75 * values[0]


# The weights of the normalized focal loss are held constant on purpose; its gradient is compared with the plain one's.
@every_loss_but(lambda _, opts: "normalized" in opts)
def test_gradients_are_those_of_finite_differences(name, opts, num_classes):
    logits, target = draw(num_classes, shape=(2, 2, 4), scale=1.0)
    loss = make(name, opts, num_classes)
    assert torch.autograd.gradcheck(lambda z: loss(z, target), logits.requires_grad_(), atol=1e-7)


@every_loss
def test_the_layout_and_the_label_dtype_do_not_matter(name, opts, num_classes):
    logits, target = draw(num_classes)
    expected = make(name, opts, num_classes)(logits, target)
    strided = logits.contiguous(memory_format=torch.channels_last)
    assert make(name, opts, num_classes)(strided, target.to(torch.uint8)).item() == pytest.approx(expected.item())
    for ignore_index in (3, -1, -100):
        relabelled = target.masked_fill(target == IGNORE, ignore_index)
        assert make(name, opts, num_classes, ignore_index)(logits, relabelled).item() == pytest.approx(expected.item())


def test_a_negative_ignore_index_is_not_wrapped_into_uint8():
    # 156 is -100 in uint8: such pixels must not be taken for ignored ones where they are class 156.
    logits = torch.randn(1, 157, 1, 2, generator=torch.Generator().manual_seed(0))
    target = torch.full((1, 1, 2), 156)
    loss = make("CELoss", {}, 157, ignore_index=-100)
    assert loss(logits, target.to(torch.uint8)).item() == pytest.approx(F.cross_entropy(logits, target).item())


@every_loss_but(lacks="host")
def test_nothing_depends_on_the_data_but_values(name, opts, num_classes):
    # Without data there is nothing to wait for: .item() and boolean indexing raise on fake tensors.
    from torch._subclasses.fake_tensor import FakeTensorMode

    logits, target = draw(num_classes)
    with FakeTensorMode() as mode:
        fake = mode.from_tensor(logits).requires_grad_()
        value = make(name, opts, num_classes)(fake, mode.from_tensor(target))
        value.backward()
    assert value.shape == ()
    assert fake.grad.shape == logits.shape


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_deterministic_cuda_gives_what_the_cpu_gives_without_waiting():
    for case, num_classes in CASES.values():
        name, opts = case.name, case.opts
        logits, target = draw(num_classes)
        loss = make(name, opts, num_classes)
        expected, expected_grad = loss_and_grad(loss, logits, target)
        on_device, target_on_device = logits.cuda(), target.cuda()
        torch.use_deterministic_algorithms(True)
        try:
            value, grad = loss_and_grad(loss, on_device, target_on_device)
            torch.cuda.set_sync_debug_mode("default" if "host" in case.exempt else "error")
            loss(on_device, target_on_device)
        finally:
            torch.cuda.set_sync_debug_mode("default")
            torch.use_deterministic_algorithms(False)
        torch.testing.assert_close(value.cpu(), expected)
        torch.testing.assert_close(grad.cpu(), expected_grad)


# Errors


@pytest.mark.parametrize(
    ("name", "opts", "num_classes", "message"),
    [
        ("DiceLoss", {"mode": "multiclass"}, 1, "mode is 'multiclass', but num_classes = 1 means 'binary'"),
        ("LovaszLoss", {"mode": "binary"}, 3, "mode is 'binary', but num_classes = 3 means 'multiclass'"),
        ("FocalDiceComboLoss", {"dice_kwargs": {"mode": "binary"}}, 2, "DiceLoss: mode is 'binary'"),
        ("FocalLoss", {"from_logits": False}, 1, "from_logits must be true"),
        ("BCELoss", {}, 3, "CELoss takes several classes"),
        ("CELoss", {"class_weights": [1.0, 2.0]}, 3, "class_weights needs 3 numbers"),
        ("CELoss", {"label_smoothing": 1.0}, 3, "label_smoothing must be from 0 to below 1"),
        ("FocalLoss", {"alpha": [0.5]}, 1, "alpha needs 2 numbers"),
        ("FocalLoss", {"reduction": "none"}, 1, "reduction must be 'mean' or 'sum'"),
        ("DiceLoss", {"classes": [0]}, 1, "multiclass only"),
        ("DiceLoss", {"class_weights": [1.0, 1.0]}, 1, "multiclass only"),
        ("DiceLoss", {"classes": [0, 3]}, 3, "classes must be some of 0..2"),
        ("DiceLoss", {"classes": []}, 3, "classes must be some of 0..2"),
        ("LovaszLoss", {"classes": "some"}, 3, "classes must be 'present', 'all' or a list"),
        ("MCCLoss", {"eps": 0.0}, 1, "eps must be above 0"),
        ("DiseLoss", {}, 1, "unknown loss DiseLoss; allowed: BCELoss, CELoss,"),
    ],
)
def test_options_that_make_no_sense_are_refused(name, opts, num_classes, message):
    with pytest.raises(ValueError, match=message):
        make(name, opts, num_classes)


def test_more_refusals():
    with pytest.raises(ValueError, match="ignore_index 1 is also a class"):
        make("DiceLoss", {}, 1, ignore_index=1)
    with pytest.raises(ValueError, match="none given"):
        build_loss([], num_classes=1, ignore_index=2)
    with pytest.raises(TypeError, match="smoth"):
        make("DiceLoss", {"smoth": 1.0}, 1)


@pytest.mark.parametrize(
    ("logits_shape", "target_shape"),
    [((2, 1, 4, 4), (2, 1, 4, 4)), ((2, 3, 4, 4), (2, 4, 4)), ((2, 1, 4, 4), (2, 4, 5)), ((2, 4, 4), (2, 4, 4))],
)
def test_shapes_that_do_not_fit_are_refused(logits_shape, target_shape):
    with pytest.raises(ValueError, match=r"DiceLoss: logits .* are not"):
        make("DiceLoss", {}, 1)(torch.zeros(logits_shape), torch.zeros(target_shape, dtype=torch.long))
