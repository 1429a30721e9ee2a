# ruff: noqa: E501 - tables of what the user reads: a line of it in a line
"""Each mistake in a YAML file is answered at its place, in words, all of them at once."""

import pytest

from tests.train.configs.conftest import DATA, network


def test_three_mistakes_are_three_lines(answers):
    text = "segmentation_config:\n  architecture: Unett\n  lr: -3\n  lrr: 2\ndata_module:\n  data_dir: x\n"
    assert answers(text) == [
        "2:17: segmentation_config.architecture: unknown architecture 'Unett' (did you mean 'Unet'?) (allowed with "
        "SMPSegmentationModel: DPT, DeepLabV3, DeepLabV3Plus, FPN, Linknet, MAnet, PAN, PSPNet, Segformer, UPerNet, Unet, UnetPlusPlus)",
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
    (network("loss: dice"), "3:9: segmentation_config.loss: 'dice' is not allowed (write {name: DiceLoss}) (allowed: a mapping or a non-empty list)"),
    (network("loss: []"), "3:3: segmentation_config.loss: [] is not allowed (allowed: a mapping or a non-empty list)"),
    (network("loss: [dice]"), "3:10: segmentation_config.loss.0: 'dice' is not allowed (write {name: DiceLoss}) (allowed: a mapping)"),
    (network("loss: {opts: {gamma: 1}}"), "3:3: segmentation_config.loss.name: is missing"),
    (network("loss: {name: dicee}"), "3:16: segmentation_config.loss.name: unknown loss 'dicee' (did you mean 'Dice'?) (allowed: BCELoss, CELoss,"),
    (network("loss: {name: dice, weight: 0}"), "3:30: segmentation_config.loss.weight: 0 is out of range (allowed: a number > 0)"),
    (network("loss: {name: dice, opts: {smooth: .nan}}"), "3:37: segmentation_config.loss.opts.smooth: .nan is not allowed"),
    (network("loss: {name: dice, opts: {from_logits: false}}"), "3:42: segmentation_config.loss.opts.from_logits: our networks end in logits"),
    (network("opts: {decoder_channels: [256, a, 64, 32, 16]}"), "3:34: segmentation_config.opts.decoder_channels.1: 'a' is not allowed (allowed: a whole number from 1 to 1000000)"),
    (network("architecture: DeepLabV3\n  opts: {decoder_atrous_rates: [6, 12]}"), "4:10: segmentation_config.opts.decoder_atrous_rates: [6, 12] is not allowed (allowed: a list of 3)"),
    (network("opts: {decoder_use_norm: groupnorm}"), "3:28: segmentation_config.opts.decoder_use_norm: 'groupnorm' is not allowed"),
    (network('opts: {encoder_weights: ""}'), "3:27: segmentation_config.opts.encoder_weights: '' is not allowed (allowed: non-empty text, true or false, or null)"),
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
    (DATA + "trainer: {devices: -1}", "2:20: trainer.devices: -1 is out of range (allowed: a whole number from 1 to 1000000, auto, or a non-empty list)"),
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
    ("data_module: {data_dir: d, bands: []}", "1:28: data_module.bands: [] is not allowed (allowed: a non-empty list)"),
    ("data_module: {data_dir: d, bands: [0, 1, 2]}", "1:36: data_module.bands.0: 0 is out of range"),
    ("data_module: {data_dir: d, mean: [1, x, 2], std: [1, 2, 3]}", "1:38: data_module.mean.1: 'x' is not allowed (allowed: a number)"),
    ("data_module: {data_dir: d, mean: autp, std: auto}", "1:34: data_module.mean: 'autp' is not allowed (did you mean 'auto'?)"),
    ("data_module: {data_dir: d, fill_value: .nan}", "1:40: data_module.fill_value: .nan is not allowed (allowed: a number)"),
    ("data_module: {data_dir: d, class_names: [a, 3]}", "1:45: data_module.class_names.1: 3 is not allowed (put it in quotes)"),
    ('data_module: {data_dir: d, class_names: [a, " "]}', "1:28: data_module.class_names: ' ' can't be the name of a class"),
    ('data_module: {data_dir: ""}', "1:25: data_module.data_dir: '' is not allowed (allowed: non-empty text)"),
    ('data_module: {data_dir: "a\\0b"}', "1:25: data_module.data_dir: holds a character that can't be shown (U+0000)"),
    ("data_module: {data_dir: demo://klep}", "1:25: data_module.data_dir: 'demo://klep' is no folder and no demo data set (allowed: a folder, demo://kelp, or an address that begins with s3://, gs://, az://, https:// or /vsi)"),
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
