"""Template and schema of a card, for models of other tools."""

import json
from pathlib import Path

import pytest

from inference.card import ModelCard, main
from inference.model.template import FILL_IN
from tests.inference.commands import refused, run
from tests.inference.networks import card, write_onnx


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, object]:
    capsys.readouterr()
    assert main([str(each) for each in arguments]) == 0
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.parametrize(("end", "output"), [("logits", "logits"), ("probabilities", "probabilities")])
def test_a_template_is_filled_in_from_the_model(
    end: str, output: str, tmp_path: Path, mosaic: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_onnx(tmp_path / "m.onnx", None, size=32, end=end)
    assert f"python -m inference.card --template {model}" in refused(
        capsys, mosaic, tmp_path / "o.tif", "--model", model
    )
    found = printed(capsys, "--template", model)
    assert (found["bands"], found["tile_size"], found["any_size"]) == ([1, 2, 3], 32, False)
    assert (found["activation"], found["output"], found["name"]) == ("sigmoid", output, "m")
    left = {key for key, value in found.items() if str(value).startswith(FILL_IN)}
    assert left == {"task", "dtype", "mean", "std", "max_pixel_value"}
    path = tmp_path / "c.json"
    path.write_text(json.dumps(found))
    message = refused(capsys, mosaic, tmp_path / "o.tif", "--model", model, "--card", path)
    assert message.splitlines()[0].startswith(
        f'{path}: mean: Input should be a valid list, found "FILL IN: Mean of each'
    )
    filled = {"task": "kelp", "dtype": "uint8", "mean": [0.4] * 3, "std": [0.2] * 3, "max_pixel_value": 255}
    path.write_text(json.dumps(found | filled))
    assert run(mosaic, tmp_path / "o.tif", "--model", model, "--card", path) == 0


def test_templates_without_a_file_and_of_a_model_with_a_card(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fields = ModelCard.model_fields
    found = printed(capsys, "--template")
    assert {name for name in fields if fields[name].is_required()} <= found.keys() <= fields.keys()
    model = write_onnx(tmp_path / "m.onnx", card(threshold=0.4))
    assert ModelCard.model_validate(printed(capsys, "--template", model)).threshold == 0.4
    assert main(["--template", str(tmp_path / "no.onnx")]) == 2
    assert "no such file" in capsys.readouterr().err


def test_the_schema_has_every_field_with_its_meaning(capsys: pytest.CaptureFixture[str]) -> None:
    schema = printed(capsys, "--schema")
    properties = schema["properties"]
    assert isinstance(properties, dict)
    assert properties.keys() == ModelCard.model_fields.keys()
    assert all(field["description"] for field in properties.values())


def test_a_card_is_printed_without_hidden_characters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["sea\x9b31m\x7f", "\u202eGröße 海\x1b"]
    (tmp_path / "c.json").write_text(card(class_names=names).dumps())
    capsys.readouterr()
    assert main([str(tmp_path / "c.json")]) == 0
    out = capsys.readouterr().out
    assert not set("\x9b\x7f\u202e\x1b") & set(out)
    assert "Größe 海" in out
    assert json.loads(out)["class_names"] == names


@pytest.mark.parametrize("arguments", [[], ["--schema", "m.onnx"], ["--schema", "--template"]])
def test_one_thing_at_a_time(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    assert "python -m inference.card --help" in capsys.readouterr().err
