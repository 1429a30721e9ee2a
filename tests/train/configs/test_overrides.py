# ruff: noqa: E501 - tables of what the user reads: a line of it in a line
"""KEY=VALUE beats the file, never conflicts with it, and is answered as an override where it is wrong."""

import pytest

from inference.common.errors import UserError
from train.configs.loader import load_config

FILE = """\
num_classes: &num_classes 1
tile_size: &tile_size 1024
max_epoch: &max_epoch 20
segmentation_config:
  tile_size: *tile_size
  max_epochs: *max_epoch
  num_classes: *num_classes
  lr: 0.0003
  loss:
    name: LovaszLoss
    opts: {mode: binary}
data_module:
  data_dir: d
  tile_size: *tile_size
trainer:
  max_epochs: *max_epoch
"""


@pytest.fixture
def load(tmp_path):
    def load(*overrides, text=FILE):
        path = tmp_path / "c.yml"
        path.write_text(text, encoding="utf-8")
        return load_config(path, overrides)

    return load


@pytest.fixture
def answers(load, tmp_path):
    def answers(*overrides, text=FILE):
        with pytest.raises(UserError) as caught:
            load(*overrides, text=text)
        return str(caught.value).replace(str(tmp_path / "c.yml"), "c.yml").split("\n")

    return answers


def at(config, path):
    for key in path.split("."):
        config = config[int(key)] if isinstance(config, list) else getattr(config, key)
    return config


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("trainer.precision=bf16-mixed", "trainer.precision", "bf16-mixed"),
        ("segmentation_config.lr=1e-3", "segmentation_config.lr", 1e-3),
        (" segmentation_config.lr = 1e-3 ", "segmentation_config.lr", 1e-3),
        ("segmentation_config.loss.name=dice", "segmentation_config.loss.name", "DiceLoss"),
        ("segmentation_config.loss={name: focal, weight: 2}", "segmentation_config.loss.weight", 2.0),
        ("segmentation_config.loss=[{name: dice}, {name: bce}]", "segmentation_config.loss.1.name", "BCELoss"),
        ("segmentation_config.loss.opts=", "segmentation_config.loss.opts", None),
        ("segmentation_config.opts.encoder_weights=null", "segmentation_config.opts.encoder_weights", None),
        ("segmentation_config.backbone=tu-resnet18", "segmentation_config.backbone", "tu-resnet18"),
        ("trainer.gradient_clip_val=", "trainer.gradient_clip_val", None),
        ("data_module.label_map.7=1", "data_module.label_map", {7: 1}),
        ("data_module.label_map={-1: 2, 7: 1}", "data_module.label_map", {-1: 2, 7: 1}),
        ("data_module.label_map.-1=2", "data_module.label_map", {-1: 2}),
        ("data_module.data_dir=/a=b", "data_module.data_dir", "/a=b"),
        ("data_module.data_dir=/two words/größe", "data_module.data_dir", "/two words/größe"),
        ("logging.name=on", "logging.name", "on"),
        ("logging.name=2024-01-01", "logging.name", "2024-01-01"),
        ("logging.name='42'", "logging.name", "42"),
        ("early_stopping.patience=3", "early_stopping.patience", 3),
        ("early_stopping={}", "early_stopping.patience", 10),
        ("tags=[a, b]", "tags", ["a", "b"]),
        ("enable_logging=true", "enable_logging", True),
    ],
)
def test_a_key_is_replaced(load, override, path, value):
    assert at(load(override).config, path) == value


def test_a_key_in_a_list_is_replaced(load):
    config = load("segmentation_config.loss=[{name: dice}, {name: bce}]", "segmentation_config.loss.1.weight=3").config
    assert [term["weight"] for term in config.loss_terms] == [1.0, 3.0]


@pytest.mark.parametrize(
    ("overrides", "tile_size", "epochs"),
    [
        (["tile_size=256"], 256, 20),
        (["data_module.tile_size=256"], 256, 20),
        (["segmentation_config.tile_size=256"], 256, 20),
        (["tile_size=256", "data_module.tile_size=256"], 256, 20),
        (["data_module={data_dir: e, tile_size: 256}"], 256, 20),
        (["trainer.max_epochs=3"], 1024, 3),
        (["max_epoch=3"], 1024, 3),
        (["trainer={max_epochs: 3}"], 1024, 3),
        (["trainer={}"], 1024, 20),
        (["trainer.max_epochs="], 1024, 20),  # says nothing, so that the top level counts
        (["tile_size=", "data_module.tile_size="], 1024, 20),
    ],
)
def test_a_shared_key_never_conflicts_with_the_file(load, overrides, tile_size, epochs):
    config = load(*overrides).config
    assert config.tile_size == config.data_module.tile_size == config.segmentation_config.tile_size == tile_size
    assert config.max_epoch == config.trainer.max_epochs == config.segmentation_config.max_epochs == epochs


def test_a_shared_key_of_which_two_overrides_disagree(answers):
    assert answers("tile_size=256", "data_module.tile_size=512") == [
        "override: data_module.tile_size: is 512, but tile_size is 256 (they are one value: change one) "
        "[see override tile_size]"
    ]


def test_of_a_key_that_is_given_twice_the_last_counts_with_a_notice(load):
    loaded = load("tile_size=256", "trainer.precision=32", "tile_size=512", "tile_size=128")
    assert loaded.config.tile_size == 128
    assert loaded.notices == ["override tile_size is given more than once: the last one counts"]


@pytest.mark.parametrize(
    ("text", "override"),
    [
        ("data_module: {data_dir: d}\nsegmentation_config: {lr: -1}\n", "segmentation_config.lr=1e-3"),
        ("data_module: {data_dir: d}\nsegmentation_config: {lr: -1, foo: 2}\n", "segmentation_config={}"),
        ("data_module: {data_dir: d}\nsegmentation_config: {architecture: Unett}\n", "segmentation_config.architecture=unet"),
        ("data_module: {data_dir: d}\nsegmentation_config: {lr: 1, lr: 2}\n", "segmentation_config.lr=1e-3"),
        ("data_module: {data_dir: d}\nsegmentation_config: {lr: 1, lr: 2}\n", "segmentation_config={}"),
        ('data_module: {data_dir: "a\\0"}\n', "data_module.data_dir=d"),
        ("tile_size: 64\ndata_module: {data_dir: d, tile_size: 32}\n", "tile_size=48"),
        ("tile_size: 64\ndata_module: {data_dir: d, tile_size: 32}\n", "data_module.tile_size=64"),
        ("tile_size: 64\ndata_module: {data_dir: d, tile_size: 32}\nsegmentation_config: {tile_size: 16}", "tile_size=48"),
        ("tile_size: x\ndata_module: {data_dir: d, tile_size: y}\n", "tile_size=48"),
        ("num_classes: 3\ndata_module: {data_dir: d, class_names: [a, b]}\n", "num_classes=2"),
        ("data_module: {data_dir: d, num_classes: 1}\nsegmentation_config: {loss: {name: ce, opts: {mode: multiclass}}}", "num_classes=3"),
        ("tile_size: 64\n", "data_module.data_dir=d"),
        ("data_module: 3\n", "data_module={data_dir: d}"),
    ],
)  # fmt: skip
def test_an_override_mends_the_file(load, answers, text, override):
    answers(text=text)  # without it there is something to mend
    load(override, text=text)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("=3", "'=3' is no KEY=VALUE (such as trainer.max_epochs=3)"),
        ("", "'' is no KEY=VALUE"),
        ("tile_size", "'tile_size' is no KEY=VALUE"),
        ("a..b=1", "'a..b=1' is no KEY=VALUE"),
        (".=1", "'.=1' is no KEY=VALUE"),
        ("lr=3", "lr: unknown key (it belongs to segmentation_config)"),
        ("segmentation_config.lrr=3", "segmentation_config.lrr: unknown key (did you mean 'lr'?)"),
        ("Trainer.max_epochs=3", "Trainer: unknown key (did you mean 'trainer'?)"),
        ("trainer.0=1", "trainer.0: unknown key (allowed: accelerator,"),
        ("trainer.²=1", "trainer.²: unknown key"),
        ("trainer.max_epochs.x=3", "trainer.max_epochs.x: is no key: a single value stands here"),
        ("data_module.bands.x=3", "data_module.bands.x: is no key: items of a list are numbered from 0"),
        ("data_module.bands.0=3", "data_module.bands.0: data_module.bands is not set, so it has no item 0 (give the whole"),
        ("segmentation_config.loss.0.weight=2", "segmentation_config.loss.0.weight: segmentation_config.loss is no list,"),
        ("segmentation_config.loss=dice", "segmentation_config.loss: 'dice' is not allowed (write {name: DiceLoss})"),
        ("segmentation_config.lr=nan", "segmentation_config.lr: 'nan' is not allowed (allowed: a number > 0)"),
        ("segmentation_config.lr=.nan", "segmentation_config.lr: .nan is not allowed (allowed: a number > 0)"),
        ("segmentation_config.lr=", "segmentation_config.lr: nothing is not allowed"),
        ("segmentation_config={lr: 1, lr: 2}", "segmentation_config.lr: stands here a second time"),
        ("tile_size=8", "tile_size: 8 is out of range (allowed: a whole number from 16 to 65536)"),
        ("tile_size=x", "tile_size: 'x' is not allowed"),
        ("tile_size=256.0", "tile_size: 256.0 is not allowed"),
        ("data_module.tile_size=x", "data_module.tile_size: 'x' is not allowed"),
        ("data_module.tile_size=8", "data_module.tile_size: 8 is out of range"),
        ("data_module=null", "data_module.data_dir: is missing"),
        ("data_module={}", "data_module.data_dir: is missing"),
        ("data_module=3", "data_module: 3 is not allowed (allowed: a mapping)"),
        ("enable_logging=on", "enable_logging: 'on' is not allowed (write true)"),
        ("checkpoint.filename={epoch}-{dice}", "checkpoint.filename: '{epoch}-{dice}' is no YAML value (put text with such signs"),
        ("tags=[[[", "tags: '[[[' is no YAML value"),
        ("tags=" + "[" * 5000, "tags: '[[[[[["),
        ("tile_size=1" + "0" * 5000, "tile_size: '1000"),
        ("logging.name=!!python/object:os.x {}", "logging.name: '!!python/object:os.x {}' is no YAML value"),
        ("logging.name=a\nb: c", "logging.name: 'a\\nb: c' is no YAML value"),
        ("data_module.data_dir=\udcff", "data_module.data_dir: '\\udcff' is no YAML value"),
        ('logging.name="a\\0"', "logging.name: holds a character that can't be shown (U+0000)"),
    ],
)  # fmt: skip
def test_a_wrong_override_is_one_line_that_says_so(answers, override, expected):
    (line,) = answers(override)
    assert line.startswith(f"override: {expected}")
    assert len(line) < 420


def test_an_item_that_a_list_lacks(answers):
    loss = "segmentation_config.loss=[{name: dice}, {name: bce}]"
    assert answers(loss, "segmentation_config.loss.2.weight=1", "segmentation_config.loss.-1.weight=1", "segmentation_config.loss.weight=1") == [
        "override: segmentation_config.loss.2.weight: segmentation_config.loss has 2 items, numbered from 0, so no 2",
        "override: segmentation_config.loss.-1.weight: segmentation_config.loss has 2 items, numbered from 0, so no -1",
        "override: segmentation_config.loss.weight: segmentation_config.loss is a list: say which item "
        "(segmentation_config.loss.0 to segmentation_config.loss.1)",
    ]  # fmt: skip


def test_an_override_that_does_not_fit_the_file_shows_both(answers):
    assert answers("num_classes=3") == [
        "c.yml:11:18: segmentation_config.loss.opts.mode: is binary, but num_classes 3 is multiclass "
        "[see override num_classes]"
    ]
    assert answers("segmentation_config.loss.opts.mode=multiclass") == [
        "override: segmentation_config.loss.opts.mode: is multiclass, but num_classes 1 is binary [see c.yml:1:14]"
    ]


def test_overrides_and_the_file_are_answered_together(answers):
    lines = answers("lr=3", "tile_size", text=FILE.replace("lr:", "lrr:"))
    assert [line.split(": ")[0] for line in lines] == ["override", "override", "c.yml:8:3"]
