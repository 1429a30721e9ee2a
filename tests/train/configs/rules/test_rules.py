# ruff: noqa: E501 - a table of what the user reads: a line of it in a line
"""What two keys say together: both places are shown, and a slip in one is not held against the other."""

import pytest

from inference.common.errors import UserError
from train.configs.loader import load_config

D = "data_module: {data_dir: d}\n"


def answers(tmp_path, text):
    path = tmp_path / "c.yml"
    path.write_text(text)
    try:
        load_config(path)
    except UserError as error:
        return str(error).replace(str(path), "c.yml").split("\n")
    return []


def loss(text, classes=1):
    return f"{D}num_classes: {classes}\nsegmentation_config: {{loss: {text}}}\n"


def net(text, family="SMPSegmentationModel"):
    return f"{D}segmentation_model_cls: {family}\nsegmentation_config: {{{text}}}\n"


def data(text, top=""):
    return f"{top}data_module: {{data_dir: d, {text}}}\n"


SHARED = [
    (
        D + "tile_size: 64\nsegmentation_config: {tile_size: 32}\n",
        "c.yml:3:34: segmentation_config.tile_size: is 32, but tile_size is 64 (they are one value: change one, or leave "
        "all but tile_size out) [see c.yml:2:12]",
    ),
    (
        D + "trainer: {max_epochs: 3}\nmax_epoch: 4\n",
        "c.yml:2:23: trainer.max_epochs: is 3, but max_epoch is 4 (they are one value: change one, or leave all but "
        "max_epoch out) [see c.yml:3:12]",
    ),
    (
        "data_module: {data_dir: d, seed: 1}\nseed: 2\n",
        "c.yml:1:34: data_module.seed: is 1, but seed is 2 (they are one value: change one, or leave all but seed out) "
        "[see c.yml:2:7]",
    ),
    (
        "data_module: {data_dir: d, num_bands: 4}\nsegmentation_config: {num_bands: 3}\n",
        "c.yml:1:39: data_module.num_bands: is 4, but segmentation_config.num_bands is 3 (they are one value: change one, "
        "or leave all but num_bands out) [see c.yml:2:34]",
    ),
]

CLASSES = [
    ("num_classes: 3\nsegmentation_config: {ignore_index: 2}\n" + D, "c.yml:2:37: segmentation_config.ignore_index: is 2, but 2 is a class too: num_classes 3 means labels 0 to 2 (allowed: 3 to 255) [see c.yml:1:14]"),
    (D + "segmentation_config: {ignore_index: 1}\n", "c.yml:2:37: segmentation_config.ignore_index: is 1, but 1 is a class too: num_classes 1 means labels 0 to 1 (allowed: 2 to 255)"),
    (D + "segmentation_config: {task: multiclass}\n", "c.yml:2:29: segmentation_config.task: is multiclass, but num_classes 1 is binary"),
    ("num_classes: 2\nsegmentation_config: {task: binary}\n" + D, "c.yml:2:29: segmentation_config.task: is binary, but num_classes 2 is multiclass [see c.yml:1:14]"),
    (data("class_names: [a]"), "c.yml:1:28: data_module.class_names: has 1 names for 2 classes (a binary model has background and target)"),
    (data("class_names: [a, b]", "num_classes: 3\n"), "c.yml:2:28: data_module.class_names: has 2 names for 3 classes [see c.yml:1:14]"),
    (data("class_names: [a, a, b]", "num_classes: 3\n"), "c.yml:2:28: data_module.class_names: names 'a' twice (each class needs a name of its own)"),
    (data("background_index: 1"), "c.yml:1:46: data_module.background_index: is 1, but the background of a binary model is class 0 (leave it out)"),
    (data("background_index: none"), "c.yml:1:46: data_module.background_index: is none, but the background of a binary model is class 0 (leave it out)"),
    (data("background_index: 3", "num_classes: 3\n"), "c.yml:2:46: data_module.background_index: is 3, but classes are 0 to 2 [see c.yml:1:14]"),
    (data("label_map: {3: 7}"), "c.yml:1:43: data_module.label_map.3: maps 3 to 7, which is no class (allowed: 0 to 1, and 2 to ignore)"),
    (data("label_map: {3: 300}"), "c.yml:1:43: data_module.label_map.3: 300 is out of range (allowed: a whole number from 0 to 255)"),
    ("extra_transforms: [species_label_transform]\n" + data("label_map: {1: 0}"), "c.yml:2:28: data_module.label_map: and extra_transforms both map labels (keep one of them) [see c.yml:1:1]"),
    ("num_classes: 3\nextra_transforms: [species_label_transform]\n" + D, "c.yml:2:1: extra_transforms: species_label_transform makes 0 into 2, which must be ignore_index; that is 255 with num_classes 3 [see c.yml:1:14]"),
    ("segmentation_config: {ignore_index: 9}\nextra_transforms: [species_label_transform]\n" + D, "c.yml:2:1: extra_transforms: species_label_transform makes 0 into 2, which must be ignore_index; that is 9 [see c.yml:1:37]"),
]  # fmt: skip

BANDS = [
    (data("bands: [1, 2]", "num_bands: 3\n"), "c.yml:2:28: data_module.bands: chooses 2 bands, but num_bands is 3 [see c.yml:1:12]"),
    (data("mean: [1], std: [1, 2, 3]"), "c.yml:1:28: data_module.mean: has 1 of 3 (one for each band)"),
    (data("mean: [1, 2, 3], std: [1, 2], bands: [1, 2, 4]"), "c.yml:1:45: data_module.std: has 2 of 3 (one for each band) [see c.yml:1:58]"),
    (data("mean: auto"), "c.yml:1:34: data_module.mean: mean and std go together: both given, both auto, or neither"),
    (data("mean: auto, std: [1, 2, 3]"), "c.yml:1:34: data_module.mean: mean and std go together: both given, both auto, or neither [see c.yml:1:40]"),
]  # fmt: skip

CHECKPOINT = [
    (D + "checkpoint: {monitor: val/iou_epoch, mode: min}\n", "c.yml:2:44: checkpoint.mode: is min, but the best val/iou is the highest (write max, or leave it out) [see c.yml:2:23]"),
    (D + "checkpoint: {monitor: val/loss, mode: max}\n", "c.yml:2:39: checkpoint.mode: is max, but the best val/loss is the lowest (write min, or leave it out) [see c.yml:2:23]"),
    (D + "checkpoint: {mode: min}\n", "c.yml:2:20: checkpoint.mode: is min, but the best val/dice is the highest (write max, or leave it out)"),
    (D + 'checkpoint: {monitor: train/loss, filename: "{val/dice}"}\n', "c.yml:2:45: checkpoint.filename: names a score of val/, but a checkpoint is taken when train/loss is known, and its name can hold scores of train/ only [see c.yml:2:23]"),
    (D + "checkpoint: {save_top_k: 0, save_last: false}\n", "c.yml:2:26: checkpoint.save_top_k: is 0, and save_last is false: no checkpoint would be kept (change one of them) [see c.yml:2:40]"),
    (D + "early_stopping: {patience: 3}\ntrainer: {limit_val_batches: 0}\n", "c.yml:2:1: early_stopping: waits for val/dice, but limit_val_batches is 0: nothing is validated [see c.yml:3:30]"),
]  # fmt: skip

NETWORKS = [
    (net("architecture: AerialFormer"), "c.yml:3:37: segmentation_config.architecture: unknown architecture 'AerialFormer' (it belongs to segmentation_model_cls: AerialFormer) [see c.yml:2:25]"),
    (net("backbone: resnet35"), "c.yml:3:33: segmentation_config.backbone: unknown encoder 'resnet35' (did you mean 'resnet50'?) (allowed: an encoder of segmentation-models-pytorch, such as resnet34 or mit_b3, or tu-NAME with a name of timm's)"),
    (net("backbone: tf_efficientnetv2_q"), "c.yml:3:33: segmentation_config.backbone: unknown encoder 'tf_efficientnetv2_q' (did you mean 'tf_efficientnetv2_s'?)"),
    (net('backbone: ""'), "c.yml:3:33: segmentation_config.backbone: unknown encoder ''"),
    (net("backbone: na"), "c.yml:3:33: segmentation_config.backbone: unknown encoder 'na'"),
    (net("", "UnetPlusPlus"), "c.yml:2:25: segmentation_model_cls: unknown class 'UnetPlusPlus' (that is an architecture: write segmentation_model_cls: SMPSegmentationModel, architecture: UnetPlusPlus)"),
    (net("", "smpsegmentationmodel"), "c.yml:2:25: segmentation_model_cls: unknown class 'smpsegmentationmodel' (did you mean 'SMPSegmentationModel'?) (allowed: SMPSegmentationModel, DINOv2Segmentation, AerialFormer)"),
    (net("architecture: Unet", "AerialFormer"), "c.yml:3:37: segmentation_config.architecture: unknown architecture 'Unet' (it belongs to segmentation_model_cls: SMPSegmentationModel) [see c.yml:2:25]"),
    (net("backbone: resnet34", "AerialFormer"), "c.yml:3:33: segmentation_config.backbone: is 'resnet34', but AerialFormer brings its own encoder (allowed: na, or leave it out) [see c.yml:2:25]"),
    (net("opts: {encoder_depth: 4}", "AerialFormer"), "c.yml:3:30: segmentation_config.opts.encoder_depth: AerialFormer-T has no such option (it takes: drop_path_rate, dropout, encoder_weights)"),
    (net("architecture: multilevl", "DINOv2Segmentation"), "c.yml:3:37: segmentation_config.architecture: unknown architecture 'multilevl' (did you mean 'multilevel'?) (allowed with DINOv2Segmentation: multilevel, linear) [see c.yml:2:25]"),
    (net("backbone: dinov2_x", "DINOv2Segmentation"), "c.yml:3:33: segmentation_config.backbone: unknown DINOv2 backbone 'dinov2_x' (did you mean 'dinov2_s'?)"),
    (net("backbone: convnext_small.dinov3_lvd1689m", "DINOv2Segmentation"), "c.yml:3:33: segmentation_config.backbone: unknown DINOv2 backbone 'convnext_small.dinov3_lvd1689m'"),
    (net("opts: {decoder_channels: [1, 2]}", "DINOv2Segmentation"), "c.yml:3:30: segmentation_config.opts.decoder_channels: is a list, but multilevel takes one number"),
    (net("architecture: linear, opts: {decoder_channels: 8}", "DINOv2Segmentation"), "c.yml:3:52: segmentation_config.opts.decoder_channels: linear has no such option (it takes: dropout, encoder_indices, encoder_params, encoder_weights)"),
    (net("architecture: FPN, opts: {decoder_channels: 8}"), "c.yml:3:49: segmentation_config.opts.decoder_channels: FPN has no such option (it takes: decoder_dropout, decoder_interpolation,"),
    (net("architecture: Unet, opts: {decoder_channels: 8}"), "c.yml:3:68: segmentation_config.opts.decoder_channels: is one number, but Unet takes a list, deepest stage first [see c.yml:3:37]"),
    (net("architecture: Unet, opts: {decoder_channels: [8, 4]}"), "c.yml:3:50: segmentation_config.opts.decoder_channels: has 2 numbers, but encoder_depth is 5 (one for each stage)"),
    (net("opts: {encoder_depth: 4, decoder_channels: [8, 4]}"), "c.yml:3:48: segmentation_config.opts.decoder_channels: has 2 numbers, but encoder_depth is 4 (one for each stage) [see c.yml:3:45]"),
    (net("architecture: Unet, opts: {decoder_attention_type: scse, decoder_channels: [64, 32, 16, 16, 8]}"), "c.yml:3:74: segmentation_config.opts.decoder_attention_type: is scse, which needs 16 channels and more; decoder_channels has 8 [see c.yml:3:80]"),
    (net("architecture: PAN, opts: {decoder_channels: [8, 4]}"), "c.yml:3:49: segmentation_config.opts.decoder_channels: is a list, but PAN takes one number [see c.yml:3:37]"),
    (net("architecture: PAN, opts: {encoder_output_stride: 8}"), "c.yml:3:72: segmentation_config.opts.encoder_output_stride: is 8, which PAN can't do (allowed: 16, 32) [see c.yml:3:37]"),
    (net("backbone: resnet18, opts: {encoder_indices: [1, 2]}"), "c.yml:3:50: segmentation_config.opts.encoder_indices: is for encoders of timm's, and resnet18 is one of SMP's own (use tu-NAME, or leave it out) [see c.yml:3:33]"),
]  # fmt: skip

LOSSES = [
    (loss("{name: dice, opts: {gamma: 1}}"), "c.yml:3:49: segmentation_config.loss.opts.gamma: DiceLoss has no such option (it takes: class_weights, classes, eps, from_logits, ignore_index, log_loss, mode, smooth)"),
    (loss("[{name: focal, opts: {smooth: 1}}]"), "c.yml:3:51: segmentation_config.loss.0.opts.smooth: FocalLoss has no such option"),
    (loss("{name: FocalDiceCombo, opts: {focal_kwargs: {smooth: 1}}}"), "c.yml:3:74: segmentation_config.loss.opts.focal_kwargs.smooth: FocalLoss has no such option"),
    (loss("{name: FocalDiceCombo, opts: {dice_kwargs: {gamma: 1}}}"), "c.yml:3:73: segmentation_config.loss.opts.dice_kwargs.gamma: DiceLoss has no such option"),
    (loss("{name: FocalDiceCombo, opts: {dice_kwargs: {mode: multiclass}}}"), "c.yml:3:79: segmentation_config.loss.opts.dice_kwargs.mode: is multiclass, but num_classes 1 is binary [see c.yml:2:14]"),
    (loss("{name: FocalDiceCombo, opts: {alpha: 1.5}}"), "c.yml:3:66: segmentation_config.loss.opts.alpha: 1.5 is not allowed with FocalDiceComboLoss (allowed: a number from 0 to 1)"),
    (loss("{name: focal, opts: {alpha: x}}"), "c.yml:3:57: segmentation_config.loss.opts.alpha: 'x' is not allowed with FocalLoss (allowed: a number from 0 to 1 or a non-empty list)"),
    (loss("{name: dice, opts: {alpha: x}}"), "c.yml:3:49: segmentation_config.loss.opts.alpha: DiceLoss has no such option"),
    (loss("[{name: ce}, {name: tversky, opts: {alpha: x}}]"), "c.yml:3:72: segmentation_config.loss.1.opts.alpha: 'x' is not allowed with TverskyLoss (allowed: a number >= 0)"),
    (loss("{name: focl, opts: {alpha: x}}"), "c.yml:3:36: segmentation_config.loss.name: unknown loss 'focl'"),
    (loss("{name: focal, opts: {alpha: [1, 2]}}", 3), "c.yml:3:50: segmentation_config.loss.opts.alpha: has 2 weights for 3 classes [see c.yml:2:14]"),
    (loss("{name: tversky, opts: {alpha: [1, 2]}}"), "c.yml:3:52: segmentation_config.loss.opts.alpha: [1, 2] is not allowed with TverskyLoss (allowed: a number >= 0)"),
    (loss("{name: dice, opts: {mode: multiclass}}"), "c.yml:3:55: segmentation_config.loss.opts.mode: is multiclass, but num_classes 1 is binary [see c.yml:2:14]"),
    (loss("{name: dice, opts: {ignore_index: 255}}"), "c.yml:3:63: segmentation_config.loss.opts.ignore_index: is 255, but segmentation_config.ignore_index is 2 (they are one value)"),
    (loss("{name: dice, opts: {class_weights: [1, 2]}}"), "c.yml:3:49: segmentation_config.loss.opts.class_weights: is for several classes, but num_classes is 1 (leave it out) [see c.yml:2:14]"),
    (loss("{name: ce, opts: {class_weights: [1, 2]}}", 3), "c.yml:3:47: segmentation_config.loss.opts.class_weights: has 2 weights for 3 classes [see c.yml:2:14]"),
    (loss("{name: ce, opts: {class_weights: [0, 0, 0]}}", 3), "c.yml:3:47: segmentation_config.loss.opts.class_weights: are all 0: nothing would be learnt"),
    (loss("{name: dice, opts: {classes: [0]}}"), "c.yml:3:49: segmentation_config.loss.opts.classes: is for several classes, but num_classes is 1 (leave it out) [see c.yml:2:14]"),
    (loss("{name: dice, opts: {classes: [3]}}", 3), "c.yml:3:49: segmentation_config.loss.opts.classes: names classes [3], but classes are 0 to 2 [see c.yml:2:14]"),
    (loss("{name: dice, opts: {classes: all}}", 3), "c.yml:3:58: segmentation_config.loss.opts.classes: 'all' is not allowed with DiceLoss (allowed: a non-empty list)"),
    (loss("{name: bce}", 3), "c.yml:3:36: segmentation_config.loss.name: BCELoss is binary, but num_classes is 3 (use CELoss) [see c.yml:2:14]"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"), SHARED + CLASSES + BANDS + CHECKPOINT + NETWORKS + LOSSES, ids=lambda text: text[-60:]
)
def test_a_contradiction_is_one_line_that_shows_both_places(tmp_path, text, expected):
    (line,) = answers(tmp_path, text)
    assert line.startswith(expected)
    assert ("[see" in line) == ("[see" in expected)


@pytest.mark.parametrize(
    "text",
    [
        D + "tile_size: 64\nsegmentation_config: {tile_size: 64}\n",
        "num_classes: 3\nsegmentation_config: {ignore_index: 3, task: multiclass}\n" + D,
        data("class_names: [water, kelp], background_index: 0, label_map: {0: 0, 7: 1, 8: 2}"),
        data("background_index: none, label_map: {1: 0, 0: 255}", "num_classes: 3\n"),
        "num_classes: 2\nextra_transforms: [species_label_transform]\n" + data("label_map: {0: 2, 1: 0, 2: 1}"),
        data("mean: auto, std: auto", "num_bands: 5\n"),
        data("mean: [1, 2], std: [1, 2], bands: [3, 1]"),
        D + 'checkpoint: {monitor: train/loss, mode: min, filename: "{train/loss_epoch:.3f}-{epoch}"}\n',
        D + "early_stopping: {monitor: train/loss}\ntrainer: {limit_val_batches: 0}\n",
        net("architecture: na, backbone: NA, opts: {dropout: 0.1, encoder_weights: null}", "AerialFormer"),
        net("architecture: aerialformer-b", "AerialFormer"),
        net("backbone: vit_small_patch16_dinov3, opts: {decoder_channels: 64}", "DINOv2Segmentation"),
        net("backbone: tu-resnet18, opts: {encoder_indices: [1, 2, 3], decoder_channels: [1, 2, 3]}"),
        net("architecture: PSPNet, opts: {encoder_depth: 3, psp_dropout: 0}"),
        net("architecture: FPN, opts: {decoder_channels: null}"),
        loss("{name: FocalTversky, opts: {delta: 0.7, gamma: 0.75, eps: 1e-6, log_loss: true}}"),
        loss("{name: lovasz, opts: {classes: all, per_image: true}}", 3),
        loss("{name: dice, opts: {classes: [1, 2], class_weights: [0, 1, 2]}}", 3),
        loss("[{name: focal, opts: {alpha: [1, 2, 30]}}, {name: ce, weight: 0.5}]", 3),
        loss("{name: bce, opts: {class_weights: [1, 5], pos_weight: 3}}"),
        loss("{name: tversky, opts: {alpha: 2, beta: 3}}"),
        loss("{name: dice, opts: }"),
    ],
)
def test_what_goes_together_is_not_called_a_contradiction(tmp_path, text):
    assert answers(tmp_path, text) == []


def test_two_options_that_a_loss_lacks_are_two_lines(tmp_path):
    assert len(answers(tmp_path, loss("{name: dice, opts: {gamma: 1, beta: 2}}"))) == 2


def test_a_copy_that_disagrees_is_named_each_time(tmp_path):
    text = "num_bands: 3\ndata_module: {data_dir: d, num_bands: 4}\nsegmentation_config: {num_bands: 5}\n"
    assert [line.partition(": is")[0] for line in answers(tmp_path, text)] == [
        "c.yml:2:39: data_module.num_bands",
        "c.yml:3:34: segmentation_config.num_bands",
    ]
