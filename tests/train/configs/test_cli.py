"""`python -m train` up to the point where training starts: exit codes, where the lines go, and what is not imported."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from train.__main__ import main

ROOT = Path(__file__).resolve().parents[3]
# Each takes a good part of a second, or seconds; none is needed to find a typo.
HEAVY = ["torch", "lightning", "numpy", "segmentation_models_pytorch", "timm", "albumentations", "rasterio", "wandb"]
THREE = "segmentation_config:\n  architecture: Unett\n  backbone: resnet35\n  lr: -3\ndata_module: {data_dir: d}\n"
CHECK = f"""
import sys
from train.__main__ import main
try:
    code = main(sys.argv[1:])
except SystemExit as stopped:
    code = stopped.code or 0
print("imported:", *[name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)
sys.exit(code)
"""


def run(*arguments, code=None):
    command = [sys.executable, *(["-c", code] if code else ["-m", "train"]), *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "c.yml"
    path.write_text(THREE)
    return path


def test_three_mistakes_are_answered_before_anything_slow_is_imported(config):
    done = run(config, code=CHECK)
    *lines, imported = done.stderr.splitlines()
    assert done.returncode == 2
    assert [line.partition(": ")[0] for line in lines] == [f"{config}:{place}" for place in ("2:17", "3:13", "4:7")]
    assert imported == "imported:"
    assert done.stdout == ""


@pytest.mark.parametrize("arguments", [["--help"], ["--schema"], []])
def test_nothing_slow_is_imported_for(arguments):
    done = run(*arguments, code=CHECK)
    assert done.stderr.splitlines()[-1] == "imported:"
    assert done.returncode == (0 if arguments else 2)


def test_help_imports_no_pydantic():
    code = CHECK.replace(repr(HEAVY), repr(["pydantic", "yaml", *HEAVY]))
    assert run("--help", code=code).stderr == "imported:\n"


def test_as_a_module(config):
    done = run(config)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 3
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "a config is missing: python -m train CONFIG.yml"),
        (["nowhere.yml"], "nowhere.yml: no such file\n"),
        (["tile_size=3"], "tile_size=3: no such file (the config comes first, KEY=VALUE after it)\n"),
        ([""], "'': is a folder (give the config file in it)\n"),
        (["--resume", "nowhere"], "nowhere: no such folder"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(capsys, arguments, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(expected)


@pytest.mark.parametrize(
    "order",
    [
        ["CONFIG", "lr=1", "loss=2", "--check"],
        ["CONFIG", "--check", "lr=1", "loss=2"],
        ["--check", "CONFIG", "lr=1", "loss=2"],
        ["CONFIG", "lr=1", "--check", "loss=2"],
    ],
)
def test_options_and_overrides_come_in_any_order(capsys, config, order):
    config.write_text("data_module: {data_dir: d}\n")
    assert main([str(config) if word == "CONFIG" else word for word in order]) == 2
    assert [line.split(": ")[:2] for line in capsys.readouterr().err.splitlines()] == [
        ["override", "lr"],
        ["override", "loss"],
    ]


def test_an_unknown_option_is_exit_code_2(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--chekc"])
    assert stopped.value.code == 2
    assert "--chekc" in capsys.readouterr().err


def test_the_schema_is_printed(capsys):
    assert main(["--schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "Config"


def test_a_terminal_without_unicode_gets_its_answer(config):
    config.write_text("größe: 1\ndata_module: {data_dir: d}\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "train", str(config)],
        cwd=ROOT,
        capture_output=True,
        env={"PYTHONIOENCODING": "ascii", "PATH": ""},
        timeout=60,
    )
    assert done.returncode == 2
    assert b"gr\\xf6\\xdfe: unknown key" in done.stderr
