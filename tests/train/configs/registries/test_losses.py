# ruff: noqa: E501 - tables read better with a row in a line
"""The registry of losses, read from their source, against the classes themselves."""

import inspect
import subprocess
import sys

import pytest

from train.configs.network import LossOpts
from train.configs.registries import losses
from train.configs.registries.losses import COMMON
from train.losses import LOSSES

# A value that suits each option, for num_classes = 3.
VALUES = {
    "mode": None, "from_logits": True, "smooth": 1.0, "eps": 0.1, "log_loss": True, "classes": [1], "class_weights": [1.0, 2.0, 3.0],
    "alpha": 0.5, "beta": 0.5, "gamma": 1.0, "delta": 0.5, "reduction": "mean", "normalized": True, "reduced_threshold": 0.5,
    "label_smoothing": 0.1, "pos_weight": 2.0, "per_image": True, "focal_kwargs": {"gamma": 1.0}, "dice_kwargs": {"smooth": 1.0},
}  # fmt: skip


def takes(name, option):
    classes = 1 if name == "BCELoss" else 3
    value = VALUES[option][:2] if option == "class_weights" and classes == 1 else VALUES[option]
    try:
        LOSSES[name](num_classes=classes, ignore_index=255, **{option: value})
    except TypeError:
        return False
    return True


def test_rows_are_those_of_the_classes():
    assert list(losses.LOSSES) == sorted(losses.LOSSES) == list(LOSSES)
    for name, row in losses.LOSSES.items():
        cls = LOSSES[name]
        assert row.load() is cls
        assert cls.__doc__.startswith(f"{row.meaning}\n")
        assert row.aliases == vars(cls).get("aliases", ())
        assert (row.only, row.instead) == (getattr(cls, "only", None), getattr(cls, "instead", ""))
        assert (row.only is None) or row.instead in LOSSES


@pytest.mark.parametrize("name", losses.LOSSES)
def test_every_option_has_a_meaning_and_the_default_of_its_signature(name):
    for key, option in losses.LOSSES[name].options.items():
        assert option.summary.endswith(".") or key in COMMON, key
        assert option.meaning, key
    for key, parameter in inspect.signature(LOSSES[name]).parameters.items():
        if parameter.kind is parameter.KEYWORD_ONLY and key not in {"num_classes", "ignore_index"}:
            assert losses.LOSSES[name].options[key].default == parameter.default


def test_options_that_a_class_passes_to_its_base_are_not_its_own():
    # FocalTversky sets alpha and beta of Tversky by delta, and has a gamma of its own.
    options = losses.LOSSES["FocalTverskyLoss"].options
    assert not {"alpha", "beta"} & set(options)
    assert (options["gamma"].default, options["smooth"].default) == (0.75, 1.0)


def test_the_registry_needs_no_torch():
    code = "import sys; import train.configs.loader, train.export.formats; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_losses_within_a_loss():
    assert losses.nested("focal_kwargs") == "FocalLoss"
    assert losses.nested("dice_kwargs") == "DiceLoss"
    assert losses.nested("gamma") is None


@pytest.mark.parametrize("name", losses.LOSSES)
def test_options_of_a_loss_are_those_it_can_be_built_with(name):
    assert {option for option in VALUES if takes(name, option)} == set(losses.LOSSES[name].options) - {"ignore_index"}


def test_the_schema_has_the_options_that_some_loss_takes_and_no_other():
    taken = set().union(*(row.options for row in losses.LOSSES.values()))
    assert set(LossOpts.model_fields) == set(VALUES) | {"ignore_index"} == taken


@pytest.mark.parametrize("name", losses.LOSSES)
def test_options_of_several_classes_are_those_that_are_refused_where_there_is_one(name):
    row = losses.LOSSES[name]
    for option, value in (("class_weights", [1.0, 2.0]), ("classes", [1])):
        if option in row.options:
            try:
                LOSSES[name](num_classes=1, ignore_index=255, **{option: value})
                refused = False
            except ValueError:
                refused = True
            assert refused == (option in row.of_several_classes) or name == "LovaszLoss"
    assert set(row.of_several_classes) <= set(row.options)


@pytest.mark.parametrize("name", losses.LOSSES)
def test_every_spelling_of_a_loss(name):
    bare = name.removesuffix("Loss")
    for spelling in (name, bare, name.lower(), bare.upper(), f" {bare} "):
        assert losses.match(spelling) == name
    assert losses.match(bare + "x") is None
    assert losses.match("") is None
    assert losses.match("loss") is None


def test_further_names_of_losses():
    names = {"Lovász": "LovaszLoss", "cross-entropy": "CELoss", "IoU": "JaccardLoss", "BCEWithLogitsLoss": "BCELoss"}
    assert {name: losses.match(name) for name in names} == names
