# ruff: noqa: E501 - tables read better with a row in a line
"""A resolved config as plain data: what a run folder, a checkpoint and W&B hold reads back as the same config."""

import io
import json

import pytest
import torch
import yaml

from train.configs.config import Config
from train.configs.document import dump
from train.configs.loader import load_config

D = "data_module: {data_dir: d}\n"

SHAPES = {
    "defaults": (D, []),
    "null that means something": (
        D + "segmentation_config: {opts: {encoder_weights: null}}\ntrainer: {gradient_clip_val: null}\n",
        [],
    ),
    "false weights": (D + "segmentation_config: {opts: {encoder_weights: false}}\n", []),
    "label map": ("data_module: {data_dir: d, label_map: {0: 0, 7: 1, -3: 2}, label_nodata: -3}\n", []),
    "species": ("num_classes: 2\nextra_transforms: [species_label_transform]\n" + D, []),
    "binary species": ("extra_transforms: [species_label_transform]\n" + D, []),
    "losses": (
        D + "num_classes: 3\nsegmentation_config: {loss: [{name: dice, weight: 2, opts: {classes: [1, 2]}}, {name: focal, "
        "opts: {alpha: [1, 2, 3]}}, {name: FocalDiceCombo, opts: {focal_kwargs: {gamma: 1}, dice_kwargs: {smooth: 0}}}]}\n",
        [],
    ),
    "sections that disagree": (
        "tile_size: 64\nmax_epoch: 9\ndata_module: {data_dir: d, tile_size: 32}\nsegmentation_config: {max_epochs: 9}\n",
        ["data_module.tile_size=128", "trainer.max_epochs=3", "segmentation_config.num_classes=4"],
    ),
    "free mappings": (
        D + "segmentation_config: {architecture: UnetPlusPlus, backbone: vit_base_patch14_reg4_dinov2, opts: {encoder_depth: 4, "
        "encoder_indices: [2, 5, 8, 11], encoder_params: {scale_factors: [4, 2, 1, 0.5], img_size: 896, deep: {a: [null, "
        "true, on]}}, decoder_channels: [128, 64, 32, 16], head_upsampling: 1.75}}\n",
        [],
    ),
    "aerialformer": ("segmentation_model_cls: AerialFormer\n" + D + "segmentation_config: {architecture: na, backbone: na}\n", []),
    "dinov2": ("segmentation_model_cls: DINOv2Segmentation\n" + D + "segmentation_config: {backbone: dinov2_vits14_reg}\n", []),
    "unquoted look-alikes": (D + "tags: ['1e-3', '0o17', '1_0', '12:30', 'on', '~', 'null', '012', '2024-01-01', '', 'a: b', 'ü']\nlogging: {name: '42'}\n", []),
    "checkpoint": (
        D + 'checkpoint: {monitor: val/f1_epoch, filename: "{val/f1_epoch:.4f}{{x}}", save_top_k: -1}\n'
        "early_stopping: {monitor: train/loss_epoch}\ntrainer: {devices: [0, 1], val_check_interval: 3, limit_val_batches: 0, "
        "precision: bf16}\n",
        [],
    ),
    "exact numbers": (
        D + "segmentation_config: {lr: 1e-05, weight_decay: 0.1, warmup_period: 0}\ntrainer: {limit_train_batches: 1, "
        "limit_test_batches: 1.0}\nseed: 4294967295\n",
        [],
    ),
}  # fmt: skip


@pytest.fixture(params=SHAPES)
def config(request, tmp_path):
    text, overrides = SHAPES[request.param]
    path = tmp_path / "c.yml"
    path.write_text(text, encoding="utf-8")
    return load_config(path, overrides).config


def reload(text, tmp_path):
    path = tmp_path / "again.yml"
    path.write_text(text, encoding="utf-8")
    return load_config(path)


def test_as_yaml_it_reads_back(config, tmp_path):
    again = reload(dump(config.plain()), tmp_path)
    assert again.config == config
    assert type(again.config.trainer.limit_train_batches) is type(config.trainer.limit_train_batches)
    assert yaml.safe_load(dump(config.plain())) == config.plain()  # other readers of YAML see the same


def test_it_is_settled_after_one_round(config, tmp_path):
    assert reload(dump(config.plain()), tmp_path).config.plain() == config.plain()
    assert Config.model_validate(config.plain()) == config


def test_it_is_plain_enough_for_json_and_checkpoints(config):
    plain = config.plain()
    json.dumps(plain, allow_nan=False)
    stored = io.BytesIO()
    torch.save({"hyper_parameters": plain}, stored)
    stored.seek(0)
    loaded = torch.load(stored, weights_only=True)["hyper_parameters"]
    assert loaded == plain
    assert types(loaded) <= {dict, list, str, int, float, bool, type(None)}


def types(value):
    found = {type(value)}
    for item in (
        [*value.keys(), *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
    ):
        found |= types(item)
    return found


def test_a_config_that_no_loader_settled_says_one_thing_all_the_same():
    config = Config.model_validate({"tile_size": 64, "data_module": {"data_dir": "d", "tile_size": 32}})
    assert config.tile_size == config.data_module.tile_size == config.segmentation_config.tile_size == 64


def test_it_shares_nothing_with_the_config(tmp_path):
    path = tmp_path / "c.yml"
    path.write_text("data_module: {data_dir: d, label_map: {1: 0}, class_names: [a, b]}\n")
    config = load_config(path).config
    plain = config.plain()
    plain["data_module"]["label_map"][5] = 1
    plain["data_module"]["class_names"].append("c")
    assert config.data_module.label_map == {1: 0}
    assert config.data_module.class_names == ["a", "b"]


def test_every_null_that_differs_from_the_default_is_written_down(tmp_path):
    """Whatever key comes to take null: without this, a null would come back as the default."""
    path = tmp_path / "c.yml"
    path.write_text("segmentation_config: {opts: {encoder_weights: }}\ntrainer: {gradient_clip_val: }\n" + D)
    plain = load_config(path).config.plain()

    def nulls(value, at=""):
        return {f"{at}.{k}" for k, v in value.items() if v is None} | {
            name for k, v in value.items() if isinstance(v, dict) for name in nulls(v, f"{at}.{k}")
        }

    assert nulls(plain) == {".segmentation_config.opts.encoder_weights", ".trainer.gradient_clip_val"}
