"""The JSON Schema for editors, and what the schema says in words."""

import json

import pytest

from tests.train.configs.shipped import TRAINING
from train.configs.document import read
from train.configs.loader import load_config, schema
from train.configs.schema import allowed, kinds, unknown_key

jsonschema = pytest.importorskip("jsonschema")


@pytest.fixture(scope="module")
def validator():
    document = json.loads(schema())
    assert document["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(document)
    return jsonschema.Draft202012Validator(document)


@pytest.mark.parametrize("path", TRAINING, ids=lambda p: p.name)
def test_it_accepts_what_is_shipped(validator, path):
    assert [error.message for error in validator.iter_errors(read(path).data)] == []


def test_it_accepts_a_resolved_config(validator):
    (path, *_) = TRAINING
    assert [error.message for error in validator.iter_errors(load_config(path).config.plain())] == []


@pytest.mark.parametrize(
    "change",
    [
        {"foo": 1},
        {"tile_size": "x"},
        {"tile_size": 8},
        {"trainer": {"precision": 64}},
        {"segmentation_config": {"loss": "dice"}},
        {"segmentation_config": {"loss": [{"name": "dice", "wait": 1}]}},
        {"segmentation_config": {"loss": []}},
        {"segmentation_config": {"lr": 0}},
        {"data_module": {}},
    ],
)
def test_it_refuses_what_the_loader_refuses(validator, change):
    assert list(validator.iter_errors({"data_module": {"data_dir": "d"}} | change))


@pytest.mark.parametrize("precision", [32, 16, "16", "bf16", "bf16-mixed", "32-true"])
def test_it_accepts_every_way_to_write_a_precision(validator, precision):
    assert validator.is_valid({"data_module": {"data_dir": "d"}, "trainer": {"precision": precision}})


def test_every_key_is_documented():
    def undocumented(model, at):
        for name, field in model.model_fields.items():
            if not field.description:
                yield f"{at}.{name}"
            for kind in kinds((*at, name)):
                if kind.model is not None and name not in {"focal_kwargs", "dice_kwargs"}:
                    yield from undocumented(kind.model, (*at, name))

    (top,) = kinds(())
    assert list(undocumented(top.model, ())) == []


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (("segmentation_config", "lr"), "a number > 0"),
        (("segmentation_config", "warmup_period"), "a number >= 0 and < 1"),
        (("data_module", "foreground_share"), "a number from 0 to 1"),
        (("data_module", "mean"), "a non-empty list or auto"),
        (("data_module", "mean", 0), "a number"),
        (("data_module", "label_map", 3), "a whole number from 0 to 255"),
        (("trainer", "gradient_clip_val"), "a number >= 0 or null"),
        (("trainer", "devices"), "a whole number from 1 to 1000000, auto, or a non-empty list"),
        (("segmentation_config", "opts", "decoder_atrous_rates"), "a list of 3"),
        (("segmentation_config", "loss"), "a mapping or a non-empty list"),
        (("segmentation_config", "loss", 0, "name"), "text"),
        (("early_stopping",), "a mapping"),
    ],
)
def test_what_is_allowed_in_words(path, words):
    assert allowed(path) == words


def test_a_key_that_the_schema_has_is_not_unknown():
    for path in (
        ("tile_size",),
        ("segmentation_config", "loss", 0, "opts", "focal_kwargs", "gamma"),
        ("segmentation_config", "loss", "opts", "gamma"),
        ("segmentation_config", "opts", "encoder_params", "anything", "deeper"),
        ("data_module", "label_map", 3),
    ):
        assert unknown_key(path) is None
    assert unknown_key(("tile_size", "x")) == "is no key: a single value stands here"
