# ruff: noqa: E501 - tables of what the user reads: a line of it in a line
"""A YAML file to a config: what the earlier tool's files hold is read, and each mistake is answered at its place."""

import re
from pathlib import Path

import pytest

from train.configs.loader import load_config
from train.errors import UserError

CONFIGS = Path(__file__).resolve().parents[3] / "train" / "configs"
DATA = "data_module: {data_dir: d}\n"


@pytest.fixture
def load(tmp_path):
    def load(text, *overrides):
        path = tmp_path / "c.yml"
        path.write_text(text, encoding="utf-8")
        return load_config(path, overrides)

    return load


@pytest.fixture
def answers(load, tmp_path):
    """The lines with which a file is refused, without its folder."""

    def answers(text, *overrides):
        with pytest.raises(UserError) as caught:
            load(text, *overrides)
        lines = str(caught.value).replace(f"{tmp_path / 'c.yml'}", "c.yml").split("\n")
        assert all(re.match(r"(c\.yml:\d+:\d+|override): ", line) for line in lines), lines
        return [line.removeprefix("c.yml:") for line in lines]

    return answers


def network(text):
    return f"{DATA}segmentation_config:\n  {text}\n"


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


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yml")), ids=lambda p: str(p.relative_to(CONFIGS)))
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


def test_three_mistakes_are_three_lines(answers):
    text = "segmentation_config:\n  architecture: Unett\n  lr: -3\n  lrr: 2\ndata_module:\n  data_dir: x\n"
    assert answers(text) == [
        "2:17: segmentation_config.architecture: unknown architecture 'Unett' (did you mean 'Unet'?) (allowed: DPT, "
        "DeepLabV3, DeepLabV3Plus, FPN, Linknet, MAnet, PAN, PSPNet, Segformer, UPerNet, Unet, UnetPlusPlus)",
        "3:7: segmentation_config.lr: -3 is out of range (allowed: a number > 0)",
        "4:3: segmentation_config.lrr: unknown key (did you mean 'lr'?)",
    ]


UNKNOWN_KEYS = [
    (DATA + "foo: 1", "2:1: foo: unknown key (allowed: batch_size, checkpoint, data_module,"),
    (DATA + "lr: 1", "2:1: lr: unknown key (it belongs to segmentation_config)"),
    (DATA + "data_dir: x", "2:1: data_dir: unknown key (it belongs to data_module)"),
    (DATA + "max_epochs: 3", "2:1: max_epochs: unknown key (did you mean 'max_epoch'?)"),
    (DATA + "größe: 1", "2:1: größe: unknown key"),
    (DATA + "1: 2", "2:1: 1: unknown key"),
    (DATA + "~: 2", "2:1: ~: unknown key"),
    (DATA + "true: 2", "2:1: true: unknown key"),
    (DATA + '"a\\nb": 2', "2:1: 'a\\nb': unknown key"),
    (DATA + "trainer: {3: 4}", "2:11: trainer.3: unknown key"),
    (DATA + "trainer: {seed: 4}", "2:11: trainer.seed: unknown key (it belongs to the top level or data_module)"),
    (network("encoder_depth: 4"), "3:3: segmentation_config.encoder_depth: unknown key (it belongs to segmentation_config.opts)"),
    (network("loss: {name: dice, mode: binary}"), "3:22: segmentation_config.loss.mode: unknown key (it belongs to segmentation_config.loss.opts"),
    (network("loss: [{name: dice}, {name: focal, opts: {gama: 1}}]"), "3:45: segmentation_config.loss.1.opts.gama: unknown key (did you mean 'gamma'?)"),
]  # fmt: skip

WRONG_VALUES = [
    (network("lr: x"), "3:7: segmentation_config.lr: 'x' is not allowed (allowed: a number > 0)"),
    (network("lr: 0"), "3:7: segmentation_config.lr: 0 is out of range (allowed: a number > 0)"),
    (network("lr: -0"), "3:7: segmentation_config.lr: 0 is out of range"),
    (network("lr: .nan"), "3:7: segmentation_config.lr: .nan is not allowed (allowed: a number > 0)"),
    (network("lr: .inf"), "3:7: segmentation_config.lr: .inf is not allowed"),
    (network("lr: 1e400"), "3:7: segmentation_config.lr: .inf is not allowed"),
    (network("lr: 1" + "0" * 400), "3:7: segmentation_config.lr: 100000"),
    (network("lr: true"), "3:7: segmentation_config.lr: true is not allowed"),
    (network("lr:"), "3:6: segmentation_config.lr: nothing is not allowed (allowed: a number > 0)"),
    (network('lr: "1e-3"'), "3:7: segmentation_config.lr: '1e-3' is not allowed (leave the quotes out) (allowed: a number > 0)"),
    (network("lr: {a: 1}"), "3:3: segmentation_config.lr: a mapping is not allowed"),
    (network("weight_decay: .nan"), "3:17: segmentation_config.weight_decay: .nan is not allowed (allowed: a number >= 0)"),
    (network("warmup_period: .nan"), "3:18: segmentation_config.warmup_period: .nan is not allowed (allowed: a number >= 0 and < 1)"),
    (network("warmup_period: 1"), "3:18: segmentation_config.warmup_period: 1 is out of range (allowed: a number >= 0 and < 1)"),
    (network("ignore_index: 256"), "3:17: segmentation_config.ignore_index: 256 is out of range (allowed: a whole number from 0 to 255)"),
    (network("task: Binary"), "3:9: segmentation_config.task: 'Binary' is not allowed (did you mean 'binary'?) (allowed: binary, multiclass)"),
    (network("architecture: 3"), "3:17: segmentation_config.architecture: 3 is not allowed (put it in quotes) (allowed: text)"),
    (network("loss: dice"), "3:9: segmentation_config.loss: 'dice' is not allowed (write {name: DiceLoss}) (allowed: a mapping or a list that isn't empty)"),
    (network("loss: []"), "3:3: segmentation_config.loss: [] is not allowed (allowed: a mapping or a list that isn't empty)"),
    (network("loss: [dice]"), "3:10: segmentation_config.loss.0: 'dice' is not allowed (write {name: DiceLoss}) (allowed: a mapping)"),
    (network("loss: {opts: {gamma: 1}}"), "3:3: segmentation_config.loss.name: is missing"),
    (network("loss: {name: dicee}"), "3:16: segmentation_config.loss.name: unknown loss 'dicee' (did you mean 'Dice'?) (allowed: DiceLoss, JaccardLoss"),
    (network("loss: {name: dice, weight: 0}"), "3:30: segmentation_config.loss.weight: 0 is out of range (allowed: a number > 0)"),
    (network("loss: {name: dice, opts: {smooth: .nan}}"), "3:37: segmentation_config.loss.opts.smooth: .nan is not allowed"),
    (network("loss: {name: dice, opts: {from_logits: false}}"), "3:42: segmentation_config.loss.opts.from_logits: our networks end in logits"),
    (network("opts: {decoder_channels: [256, a, 64, 32, 16]}"), "3:34: segmentation_config.opts.decoder_channels.1: 'a' is not allowed (allowed: a whole number from 1 to 1000000)"),
    (network("architecture: DeepLabV3\n  opts: {decoder_atrous_rates: [6, 12]}"), "4:10: segmentation_config.opts.decoder_atrous_rates: [6, 12] is not allowed (allowed: a list of 3)"),
    (network("opts: {decoder_use_norm: groupnorm}"), "3:28: segmentation_config.opts.decoder_use_norm: 'groupnorm' is not allowed"),
    (network('opts: {encoder_weights: ""}'), "3:27: segmentation_config.opts.encoder_weights: '' is not allowed (allowed: text that isn't empty, true or false, or null)"),
    (network("backbone: tu-resnet18\n  opts: {encoder_params: {a: [.nan]}}"), "4:10: segmentation_config.opts.encoder_params: holds nan"),
    (network("backbone: tu-resnet18\n  opts: {encoder_params: {a: 1, 2: 3}}"), "4:33: segmentation_config.opts.encoder_params.2: the key should be text"),
    (DATA + "tile_size: true", "2:12: tile_size: true is not allowed (allowed: a whole number from 16 to 65536)"),
    (DATA + "tile_size: 15", "2:12: tile_size: 15 is out of range (allowed: a whole number from 16 to 65536)"),
    (DATA + "tile_size: 256.0", "2:12: tile_size: 256.0 is not allowed"),
    (DATA + "tile_size: 12:30", "2:12: tile_size: '12:30' is not allowed"),
    (DATA + "tile_size:", "2:11: tile_size: nothing is not allowed"),
    (DATA + "batch_size: 1" + "0" * 40, "2:13: batch_size: 10000000000000000000000000000000000000000 is out of range (allowed: a whole number from 1 to 1000000 or auto)"),
    (DATA + "num_classes: 256", "2:14: num_classes: 256 is out of range (allowed: a whole number from 1 to 255)"),
    (DATA + "seed: -1", "2:7: seed: -1 is out of range (allowed: a whole number from 0 to 4294967295)"),
    (DATA + "enable_logging: on", "2:17: enable_logging: 'on' is not allowed (write true) (allowed: true or false)"),
    (DATA + "enable_logging: 'no'", "2:17: enable_logging: 'no' is not allowed (write false) (allowed: true or false)"),
    (DATA + 'enable_logging: "true"', "2:17: enable_logging: 'true' is not allowed (leave the quotes out) (allowed: true or false)"),
    (DATA + "enable_logging: 1", "2:17: enable_logging: 1 is not allowed (allowed: true or false)"),
    (DATA + "tags: kelp", "2:7: tags: 'kelp' is not allowed (write [kelp]) (allowed: a list)"),
    (DATA + f"tags: {{a: {list(range(99))}}}", "2:1: tags: a mapping is not allowed (allowed: a list)"),
    (DATA + "extra_transforms: [speciez]", "2:20: extra_transforms.0: 'speciez' is not allowed (allowed: species_label_transform)"),
    (DATA + "segmentation_model_cls:", "2:24: segmentation_model_cls: nothing is not allowed (allowed: SMPSegmentationModel, DINOv2Segmentation, AerialFormer)"),
    (DATA + "segmentation_model_cls: [1]", "2:1: segmentation_model_cls: [1] is not allowed"),
    (DATA + "trainer: []", "2:1: trainer: [] is not allowed (allowed: a mapping)"),
    (DATA + "logging: x", "2:10: logging: 'x' is not allowed (allowed: a mapping)"),
    (DATA + "segmentation_config: 3", "2:22: segmentation_config: 3 is not allowed (allowed: a mapping)"),
    (DATA + "early_stopping: true", "2:17: early_stopping: true is not allowed (allowed: a mapping)"),
    (DATA + "trainer: {precision: 17}", "2:22: trainer.precision: 17 is not allowed"),
    (DATA + "trainer: {devices: -1}", "2:20: trainer.devices: -1 is out of range (allowed: a whole number from 1 to 1000000, auto, or a list that isn't empty)"),
    (DATA + "trainer: {devices: []}", "2:11: trainer.devices: [] is not allowed"),
    (DATA + "trainer: {max_steps: 0}", "2:22: trainer.max_steps: 0 is out of range (allowed: -1 or a whole number from 1 to 1000000000)"),
    (DATA + "trainer: {val_check_interval: 1.5}", "2:31: trainer.val_check_interval: 1.5 is out of range (allowed: a whole number from 1 to 1000000000 or a number > 0 and <= 1)"),
    (DATA + "trainer: {limit_train_batches: 0}", "2:32: trainer.limit_train_batches: 0 is out of range"),
    (DATA + "trainer: {gradient_clip_val: .nan}", "2:30: trainer.gradient_clip_val: .nan is not allowed (allowed: a number >= 0 or null)"),
    (DATA + "logging: {name: 42}", "2:17: logging.name: 42 is not allowed (put it in quotes) (allowed: text)"),
    (DATA + "logging: {name: a/b}", "2:17: logging.name: 'a/b' can't be the name of a folder"),
    (DATA + 'logging: {project: " "}', "2:20: logging.project: ' ' can't be the name of a folder"),
    (DATA + "logging: {project: ..}", "2:20: logging.project: '..' can't be the name of a folder"),
    (DATA + 'logging: {name: "a\\nb"}', "2:17: logging.name: 'a\\nb' can't be the name of a folder"),
    (DATA + f"logging: {{name: {'x' * 201}}}", "2:17: logging.name: 'xxxx"),
    (DATA + "early_stopping: {monitor: foo}", "2:27: early_stopping.monitor: unknown score 'foo' (allowed: val/ or train/ with loss, accuracy,"),
    (DATA + "early_stopping: {min_delta: .nan}", "2:29: early_stopping.min_delta: .nan is not allowed"),
    (DATA + "checkpoint: {monitor: val_loss, mode: min}", "2:23: checkpoint.monitor: unknown score 'val_loss' (did you mean 'val/loss'?) (allowed: val/ or train/"),
    (DATA + "checkpoint: {monitor: test/dice}", "2:23: checkpoint.monitor: unknown score 'test/dice'"),
    ("data_module: {data_dir: d, label_map: {a: 1}}", "1:40: data_module.label_map.a: the key should be a whole number"),
    ("data_module: {data_dir: d, label_map: {3: x}}", "1:43: data_module.label_map.3: 'x' is not allowed (allowed: a whole number from 0 to 255)"),
    ("data_module: {data_dir: d, background_index: [1]}", "1:28: data_module.background_index: [1] is not allowed (allowed: a whole number >= 0 or none)"),
    ("data_module: {data_dir: d, bands: []}", "1:28: data_module.bands: [] is not allowed (allowed: a list that isn't empty)"),
    ("data_module: {data_dir: d, bands: [0, 1, 2]}", "1:36: data_module.bands.0: 0 is out of range"),
    ("data_module: {data_dir: d, mean: [1, x, 2], std: [1, 2, 3]}", "1:38: data_module.mean.1: 'x' is not allowed (allowed: a number)"),
    ("data_module: {data_dir: d, mean: autp, std: auto}", "1:34: data_module.mean: 'autp' is not allowed (did you mean 'auto'?)"),
    ("data_module: {data_dir: d, fill_value: .nan}", "1:40: data_module.fill_value: .nan is not allowed (allowed: a number)"),
    ("data_module: {data_dir: d, class_names: [a, 3]}", "1:45: data_module.class_names.1: 3 is not allowed (put it in quotes)"),
    ('data_module: {data_dir: d, class_names: [a, " "]}', "1:28: data_module.class_names: ' ' can't be the name of a class"),
    ('data_module: {data_dir: ""}', "1:25: data_module.data_dir: '' is not allowed (allowed: text that isn't empty)"),
    ('data_module: {data_dir: "a\\0b"}', "1:25: data_module.data_dir: holds a character that can't be shown (U+0000)"),
    ("data_module: {data_dir: demo://klep}", "1:25: data_module.data_dir: 'demo://klep' is no folder and no demo data set (allowed: a folder, or demo://kelp)"),
    ("data_module:\n  tile_size: 64", "1:1: data_module.data_dir: is missing (a folder with train/, val/ and test/, or demo://kelp)"),
    ("data_module:", "1:13: data_module.data_dir: is missing"),
    ("tile_size: 64", "1:1: data_module.data_dir: is missing"),
    (DATA + "tile_size: 64\ntile_size: 64", "3:1: tile_size: stands here a second time (first on line 2; keep one)"),
    (DATA + DATA, "2:1: data_module: stands here a second time (first on line 1; keep one)"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), UNKNOWN_KEYS + WRONG_VALUES, ids=lambda text: text[-50:])
def test_one_mistake_is_one_line_at_its_place(answers, text, expected):
    (line,) = answers(text)
    assert line.startswith(expected)
    assert len(line) < 420


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("a/b", "'a/b' can't be the name of a checkpoint"),
        ("{foo}", "unknown field '{foo}' (allowed: epoch, step, loss,"),
        ("{}", "unknown field '{}'"),
        ("{0}", "unknown field '{0}'"),
        ("{dice.real}", "unknown field '{dice.real}'"),
        ("{epoch[0]}", "unknown field '{epoch[0]}'"),
        ("{dice", "not a format that Python knows: expected '}'"),
        ("}", "not a format that Python knows: Single '}'"),
        ("{dice!x}", "not a format that Python knows: Unknown conversion"),
        ("{dice:.4d}", "not a format that Python knows: Unknown format code 'd'"),
        ("{dice:{foo}}", "'{foo}' is no format of a number"),
        ("{dice:{iou}}", "'{iou}' is no format of a number"),
        ("{epoch:9999999999d}", "'9999999999d' is no format of a number"),  # would fill the memory
        ("{epoch:/>5}", "'/>5' is no format of a number"),
        ("last", "'last' can't be the name of a checkpoint"),
        ("..", "'..' can't be the name of a checkpoint"),
        ("", "'' can't be the name of a checkpoint"),
        ("a\\tb", "'a\\tb' can't be the name of a checkpoint"),
        ("x" * 300, "'xxx"),
        ("{train/loss:.2f}", "names a score of train/, but a checkpoint is taken when val/dice is known"),
    ],
)
def test_names_of_checkpoints(answers, template, expected):
    (line,) = answers(f'{DATA}checkpoint: {{filename: "{template}"}}')
    assert line.startswith(f"2:24: checkpoint.filename: {expected}")


def test_mistakes_of_all_kinds_come_together_in_the_order_of_the_file(answers):
    text = """\
segmentation_model_cls: AerialFormr
tile_size: 8
tile_size: 64
segmentation_config:
  tile_size: 32
  loss: {name: dice, opts: {gamma: 1}}
data_module:
  mean: [1, 2]
  std: [1, 2, 3]
trainer: {max_epochs: x}
"""
    lines = answers(text, "lr=3", "segmentation_config.lr=-1")
    assert [line.split(": ")[:2] for line in lines] == [
        ["override", "lr"],
        ["override", "segmentation_config.lr"],
        ["1:25", "segmentation_model_cls"],
        ["2:12", "tile_size"],
        ["3:1", "tile_size"],
        ["5:14", "segmentation_config.tile_size"],
        ["6:29", "segmentation_config.loss.opts.gamma"],
        ["7:1", "data_module.data_dir"],
        ["8:3", "data_module.mean"],
        ["10:23", "trainer.max_epochs"],
    ]


def test_an_alias_is_reported_where_it_is_used(answers):
    assert answers("seed: &x 5\ndata_module:\n  data_dir: d\n  num_workers: 0\n  bands: [1, 2, 3]\ntrainer:\n  max_steps: 0\n  num_nodes: *x\n  strategy: *x\n") == [
        "7:14: trainer.max_steps: 0 is out of range (allowed: -1 or a whole number from 1 to 1000000000)",
        "9:13: trainer.strategy: 5 is not allowed (allowed: auto, ddp, ddp_find_unused_parameters_true)",
    ]  # fmt: skip


def test_a_shared_value_that_is_wrong_is_one_mistake_however_often_it_is_used(answers):
    text = "tile_size: &t 5\ndata_module: {data_dir: d, tile_size: *t}\nsegmentation_config: {tile_size: *t}\n"
    assert answers(text) == ["1:12: tile_size: 5 is out of range (allowed: a whole number from 16 to 65536)"]
    text = "data_module: {data_dir: d, tile_size: 5}\nsegmentation_config: {tile_size: 5}\n"
    assert [line.split(": ")[:2] for line in answers(text)] == [["2:34", "segmentation_config.tile_size"]]


def test_values_of_wrong_types_do_not_contradict_the_right_one(answers):
    text = "num_classes: 3\ndata_module: {data_dir: d, num_classes: x}\nsegmentation_config: {num_classes: 3.0, loss: {name: ce, opts: {mode: multiclass}}}\n"
    assert [line.split(" is")[0] for line in answers(text)] == ["2:41: data_module.num_classes: 'x'", "3:36: segmentation_config.num_classes: 3.0"]  # fmt: skip


def test_a_number_of_classes_that_is_wrong_is_not_held_against_others(answers):
    text = (
        DATA
        + "num_classes: x\nsegmentation_config: {task: multiclass, ignore_index: 0, loss: {name: ce, opts: {mode: multiclass}}}\n"
    )
    (line,) = answers(text)
    assert line.startswith("2:14: num_classes: 'x' is not allowed")


def test_merged_keys_are_reported_where_they_stand(answers):
    (line,) = answers("data_module:\n  <<: {data_dir: d, foo: 1}\n")
    assert line.startswith("2:21: data_module.foo: unknown key")
