# ruff: noqa: E501 - tables of what the user reads: a line of it in a line
"""What the files of the earlier tool hold is read, and what is left out has a default."""

import pytest

from tests.train.configs.conftest import DATA, network
from tests.train.configs.shipped import CONFIGS, TRAINING
from train.configs.loader import load_config

ANCHORS = """\
segmentation_model_cls: {family}
enable_logging: true

num_bands: &num_bands 3
num_classes: &num_classes {classes}
tile_size: &tile_size 1024
batch_size: &batch_size 6
max_epoch: &max_epoch 20
"""

REST = """
data_module:
  data_dir: "/path/to/data/"
  tile_size: *tile_size
  batch_size: *batch_size
  num_workers: 4
{data}
trainer:
  accumulate_grad_batches: 32
  max_epochs: *max_epoch
  precision: "16-mixed"

logging:
  project: "kom-kelp-pa-rgb"
  name: "UNetPP-efficientnetv2-m"
  log_model: true
"""

# The shapes of the earlier tool's files: family, classes, segmentation_config, what else the data_module has, top level.
ORIGINAL = {
    "readme": (
        "SMPSegmentationModel",
        1,
        """
  architecture: "UnetPlusPlus"
  backbone: "tu-tf_efficientnetv2_m"
  num_classes: *num_classes
  lr: 0.0003
  loss:
    name: "LovaszLoss"
    opts:
      mode: "binary"
""",
        "",
        "",
    ),
    "every key": (
        "SMPSegmentationModel",
        1,
        """
  architecture: "SegFormer"
  backbone: "tf_efficientnetv2_m"
  num_classes: *num_classes
  num_bands: *num_bands
  batch_size: *batch_size
  tile_size: *tile_size
  max_epochs: *max_epoch
  ignore_index: 2
  task: binary
  lr: 1e-3
  weight_decay: 1e-4
  warmup_period: 0.3
  freeze_encoder: false
  opts: {encoder_weights: "imagenet", encoder_depth: 5}
  loss:
    name: "dice"
    opts: {mode: binary, from_logits: true, smooth: 1.0, ignore_index: 2}
""",
        """
  num_classes: *num_classes
  num_bands: *num_bands
  fill_value: 0
  fill_mask: 0
  pin_memory: true
  persistent_workers: true
  seed: 42
""",
        "seed: 42\n",
    ),
    "plain vit": (
        "SMPSegmentationModel",
        1,
        """
  architecture: "UnetPlusPlus"
  backbone: "vit_base_patch14_reg4_dinov2"
  opts:
    encoder_weights: true
    encoder_depth: 4
    encoder_indices: [2, 5, 8, 11]
    encoder_params: {scale_factors: [4, 2, 1, 0.5], img_size: 896}
    decoder_channels: [128, 64, 32, 16]
    decoder_attention_type: scse
    head_upsampling: 1.75
  loss: {name: "FocalTverskyLoss", opts: {delta: 0.7, gamma: 0.75}}
""",
        "",
        "",
    ),
    "aerialformer": (
        "AerialFormer",
        1,
        """
  architecture: "AerialFormer"
  backbone: "na"
  loss: {name: "LovaszLoss", opts: {mode: "binary"}}
""",
        "",
        "",
    ),
    "dinov2": (
        "DINOv2Segmentation",
        1,
        """
  architecture: "DINOv2"
  backbone: "dinov2_vits14_reg"
  freeze_encoder: true
  loss: {name: "TverskyLoss", opts: {mode: "binary", alpha: 0.3, beta: 0.7}}
""",
        "",
        "",
    ),
    "species": (
        "SMPSegmentationModel",
        2,
        """
  architecture: "MANet"
  backbone: "resnet34"
  num_classes: *num_classes
  ignore_index: 2
  task: multiclass
  loss:
    name: "FocalDiceComboLoss"
    opts:
      alpha: 0.5
      focal_kwargs:
        {mode: multiclass, from_logits: true, alpha: 0.25, gamma: 2, reduction: mean, ignore_index: 2}
      dice_kwargs: {mode: multiclass, from_logits: true, smooth: 1, ignore_index: 2}
""",
        "",
        "extra_transforms: [species_label_transform]\ntags: [kelp]\n",
    ),
}


def original(name):
    family, classes, segmentation, data, top = ORIGINAL[name]
    return (
        ANCHORS.format(family=family, classes=classes)
        + top
        + "segmentation_config:"
        + segmentation
        + REST.format(data=data)
    )


@pytest.mark.parametrize("name", ORIGINAL)
def test_files_of_the_earlier_tool_are_read_as_they_are(load, name):
    config = load(original(name)).config
    assert (config.tile_size, config.batch_size, config.max_epoch, config.num_bands) == (1024, 6, 20, 3)
    assert config.data_module.tile_size == config.segmentation_config.tile_size == 1024
    assert config.trainer.max_epochs == config.segmentation_config.max_epochs == 20
    assert config.trainer.precision == "16-mixed"
    assert config.logging.log_model


def test_old_names_are_translated_and_the_user_is_told(load):
    loaded = load(original("every key"))
    assert loaded.config.segmentation_config.architecture == "Segformer"
    assert loaded.config.segmentation_config.backbone == "tu-tf_efficientnetv2_m"
    assert loaded.config.loss_terms == [
        {"name": "DiceLoss", "weight": 1.0, "opts": {"mode": "binary", "from_logits": True, "smooth": 1.0}}
    ]
    assert loaded.notices == [
        "backbone 'tf_efficientnetv2_m' is timm's: read as 'tu-tf_efficientnetv2_m'",
        "data_module.fill_mask is accepted, not obeyed: pixels without a label are ignored, whatever it says",
    ]


def test_the_species_transform_is_a_label_map(load):
    config = load(original("species")).config
    assert config.data_module.label_map == {0: 2, 1: 0, 2: 1}
    assert config.data_module.background_index == "none"
    assert "ignore_index" not in str(config.loss_terms)


def test_a_background_that_is_class_0_stays_so(load):
    text = original("species").replace("num_workers: 4", "num_workers: 4\n  background_index: 0")
    assert load(text).config.data_module.background_index == 0
    assert load("extra_transforms: [species_label_transform]\n" + DATA).config.data_module.background_index is None


@pytest.mark.parametrize("path", TRAINING, ids=lambda p: str(p.relative_to(CONFIGS)))
def test_every_shipped_config_is_right(path):
    assert load_config(path).config.logging.name


def test_what_is_left_out_has_a_default(load):
    config = load(DATA).config
    assert (config.num_classes, config.tile_size, config.max_epoch) == (1, 1024, 100)
    assert (config.segmentation_config.architecture, config.segmentation_config.backbone) == (
        "UnetPlusPlus",
        "resnet34",
    )
    assert (config.ignore_index, config.labels, config.segmentation_config.task) == (2, 2, "binary")
    assert (config.checkpoint.monitor, config.checkpoint.mode) == ("val/dice", "max")
    assert config.logging.name == "c"
    assert load(DATA + "num_classes: 3").config.ignore_index == 255
    assert load(DATA + "checkpoint: {monitor: train/loss_epoch}").config.checkpoint.mode == "min"


def test_a_file_whose_name_no_folder_can_have_names_no_run(tmp_path):
    for name, run in (
        ("two words.yml", "two words"),
        ("a\\b.yml", "run"),
        ("..yml", "run"),
        ("x" * 220 + ".yml", "run"),
    ):
        path = tmp_path / name
        path.write_text(DATA)
        assert load_config(path).config.logging.name == run


def test_empty_sections_are_left_out(load):
    text = "segmentation_config: {opts: }\ndata_module: {data_dir: d}\ntrainer:\nlogging:\ncheckpoint: ~\nearly_stopping:\n"
    assert load(text).config == load(DATA).config


def test_a_value_of_a_section_fills_the_top_level_and_its_other_sections(load):
    config = load("data_module: {data_dir: d, tile_size: 64, seed: 5}\ntrainer: {max_epochs: 7}\n").config
    assert config.tile_size == config.segmentation_config.tile_size == config.data_module.tile_size == 64
    assert config.max_epoch == config.trainer.max_epochs == config.segmentation_config.max_epochs == 7
    assert config.seed == 5
    assert load("tile_size:\ndata_module: {data_dir: d, tile_size: 64}\n").config.tile_size == 64


def test_bands_that_are_chosen_say_how_many_there_are(load):
    config = load("data_module: {data_dir: d, bands: [4, 2, 1, 1]}\n").config
    assert config.num_bands == config.data_module.num_bands == config.segmentation_config.num_bands == 4


@pytest.mark.parametrize("name", ["UNETPLUSPLUS", "unet++", "UNet-PlusPlus", "UnetPlusPlus"])
def test_architectures_in_any_case(load, name):
    assert load(network(f"architecture: {name}")).config.segmentation_config.architecture == "UnetPlusPlus"


@pytest.mark.parametrize(
    ("name", "canonical"),
    [("dice", "DiceLoss"), ("DICELOSS", "DiceLoss"), ("Lovász", "LovaszLoss"), ("focal_tversky", "FocalTverskyLoss"), ("bce", "BCELoss"), ("CELoss", "CELoss"), ("FocalDiceCombo", "FocalDiceComboLoss")],
)  # fmt: skip
def test_losses_in_any_case_with_and_without_their_suffix(load, name, canonical):
    assert load(network(f"loss: {{name: {name}}}")).config.loss_terms[0]["name"] == canonical


def test_filename_of_the_earlier_tool(load):
    loaded = load(DATA + 'checkpoint: {monitor: val/f1_epoch, filename: "{val/f1_epoch:.4f}_{epoch:02d}_{{x}}"}')
    assert loaded.config.checkpoint.filename == "{f1:.4f}_{epoch:02d}_{{x}}"
    assert loaded.config.checkpoint.monitor == "val/f1"
