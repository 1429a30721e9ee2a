"""Checkpoints from W&B through its real client, from a server on the loopback: the right file of the right version."""

import base64
from collections.abc import Callable
from pathlib import Path

import pytest

from inference.common.errors import UserError
from train.export.artifact import fetch, is_artifact_name, parse_name
from train.export.artifact_manifest import ManifestFile, cache_path, choose_checkpoint, is_intact

from .artifacts import CONTENT, NAME, kept, refusal, versions
from .wandb_server import Stored, WandbServer, digest_of

pytestmark = pytest.mark.usefixtures("private")


@pytest.mark.parametrize(
    ("source", "version"),
    [
        (f"{NAME}:v0", 0),
        ("kelp/model-x", 1),
        ("https://wandb.ai/reef/kelp/artifacts/model/model-x/best/files?a=b", 0),
    ],
)
def test_by_version_by_alias_and_by_address(
    serve: Callable[..., WandbServer], capfd: pytest.CaptureFixture[str], source: str, version: int
) -> None:
    server = serve(*versions())
    artifact = fetch(source)
    assert artifact.name == f"{NAME}:v{version}"
    assert artifact.checkpoint.read_bytes() == CONTENT + b"!" * version
    assert artifact.checkpoint.name == "model.ckpt"
    assert artifact.metadata == ({"score": 0.91} if version == 0 else {})
    assert server.asked["card.json"] == 0
    out, err = capfd.readouterr()
    assert out == ""
    assert err == f"downloading {NAME}:v{version} (0.3 MB)\n"


@pytest.mark.parametrize(
    ("source", "name"),
    [
        (f"{NAME}:best", f"{NAME}:best"),
        (NAME, f"{NAME}:latest"),
        ("https://wandb.ai/reef/kelp/artifacts/model/model-x", f"{NAME}:latest"),
        ("https://wandb.ai/reef/kelp/artifacts/model/model-x/v3/overview", f"{NAME}:v3"),
        ("https://wandb.ai/reef/kelp/artifacts/model/my%20model/v3#top", "reef/kelp/my model:v3"),
        (f"wandb-artifact://{NAME}:v0", f"{NAME}:v0"),
        (f"wandb-artifact:///{NAME}", f"{NAME}:latest"),
    ],
)
def test_names_and_addresses(source: str, name: str) -> None:
    assert is_artifact_name(source)
    assert parse_name(source)[0] == name


@pytest.mark.parametrize("escape", ["%00", "%0A", "%1B", "%7f", "%2F", "%3A"])
def test_characters_that_no_name_contains(escape: str) -> None:
    """Neither a process can be given them nor should a terminal show them."""
    with pytest.raises(UserError, match="not the name of a W&B artifact"):
        parse_name(f"https://wandb.ai/reef/kelp/artifacts/model/my{escape}model/v3")


def test_the_second_call_downloads_nothing(
    serve: Callable[..., WandbServer], cache: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    server = serve(*versions())
    first = fetch(f"{NAME}:v0")
    capfd.readouterr()
    assert fetch(f"{NAME}:best") == first
    assert server.asked["model.ckpt"] == 1
    assert capfd.readouterr() == ("", "")
    # What was kept has changed since: downloaded again.
    first.checkpoint.write_bytes(CONTENT.swapcase())
    fetch(f"{NAME}:v0")
    assert server.asked["model.ckpt"] == 2
    assert first.checkpoint.read_bytes() == CONTENT
    # Another server has the same bytes under another name, so that nothing is downloaded at all.
    other = serve(Stored("copy", 3, {"model.ckpt": CONTENT}))
    assert fetch("reef/kelp/copy:v3").checkpoint == first.checkpoint
    assert other.asked["model.ckpt"] == 0
    assert kept(cache) == ["model.ckpt"]
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and cache not in p.parents]


def test_a_link_in_the_cache_is_neither_trusted_nor_followed(
    serve: Callable[..., WandbServer], cache: Path, tmp_path: Path
) -> None:
    serve(*versions())
    place = fetch(f"{NAME}:v0").checkpoint
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    place.rename(elsewhere / "model.ckpt")
    place.symlink_to(elsewhere / "model.ckpt")
    assert fetch(f"{NAME}:v0").checkpoint == place
    assert not place.is_symlink()
    file = ManifestFile("model.ckpt", digest_of(CONTENT), "MD5", len(CONTENT), None)
    place.unlink()
    place.parent.rmdir()
    place.parent.symlink_to(elsewhere)
    with pytest.raises(UserError, match="is a symbolic link"):
        cache_path(NAME, cache, file)


def test_absent_artifacts_and_versions(serve: Callable[..., WandbServer]) -> None:
    serve(*versions())
    message = refusal(f"{NAME}:v7")
    assert f"{NAME}:v7" in message
    assert "the latest is v1: latest" in message
    assert "no such W&B artifact" in refusal("reef/kelp/model-y:v0")


def test_an_artifact_without_a_checkpoint(serve: Callable[..., WandbServer], cache: Path) -> None:
    serve(Stored("parts", 0, {f"part-{number:02d}.bin": b"0" for number in range(12)}))
    message = refusal("reef/kelp/parts:v0")
    assert "part-00.bin" in message
    assert "and 2 more" in message
    assert kept(cache) == []


def test_the_usual_one_of_several_checkpoints(serve: Callable[..., WandbServer], cache: Path) -> None:
    """The files whose names begin like it, which W&B's client downloads as well, are not kept."""
    serve(Stored("several", 0, {"deep/best.ckpt": b"b", "deep/best.ckpt.txt": b"t", "last.ckpt": b"l"}))
    assert fetch("reef/kelp/several:v0").checkpoint.read_bytes() == b"b"
    assert kept(cache) == ["best.ckpt"]


def choose(*paths: str, ref: str | None = None) -> str:
    """The path of the checkpoint among files."""
    return choose_checkpoint("a/b/c:v0", [ManifestFile(path, digest_of(b""), "MD5", 0, ref) for path in paths]).path


def test_which_file_is_the_checkpoint() -> None:
    assert choose("card.json", "checkpoints/epoch=3.CKPT") == "checkpoints/epoch=3.CKPT"
    assert choose("a.ckpt", "model.ckpt") == "model.ckpt"
    for paths in (["a.ckpt", "b.ckpt"], ["best.ckpt", "model.ckpt"], ["x/model.ckpt", "y/model.ckpt"]):
        with pytest.raises(UserError, match=f"several checkpoints \\({paths[0]}, {paths[1]}\\)"):
            choose(*paths)
    with pytest.raises(UserError, match="it holds nothing"):
        choose()
    with pytest.raises(UserError, match=r"at s3://bucket/model\.ckpt"):
        choose("model.ckpt", ref="s3://bucket/model.ckpt")


@pytest.mark.parametrize("path", ["../x", "a/../../x", "..", "", ".", "/tmp/x", "..\\x", "C:\\x", "C:x", "a\0b"])
def test_paths_that_leave_their_folder(path: str) -> None:
    with pytest.raises(UserError, match="would leave its folder"):
        choose("model.ckpt", path)


def test_the_other_digest_that_wandb_writes(serve: Callable[..., WandbServer], tmp_path: Path) -> None:
    xxhash = pytest.importorskip("xxhash")
    right = base64.b64encode(xxhash.xxh128(CONTENT).digest()).decode()
    entry = {"digest": right, "extra": {"alg": "XXH128"}}
    serve(Stored("model-x", 0, {"model.ckpt": CONTENT}, manifest={"model.ckpt": entry}))
    checkpoint = fetch(f"{NAME}:v0").checkpoint
    assert checkpoint.read_bytes() == CONTENT
    assert not is_intact(checkpoint, ManifestFile("model.ckpt", digest_of(CONTENT), "XXH128", len(CONTENT), None))


def test_nothing_is_asked_for_where_a_path_leaves_its_folder(serve: Callable[..., WandbServer], cache: Path) -> None:
    path = "../x.ckpt"
    server = serve(Stored("model-x", 0, {"model.ckpt": CONTENT, path: b"x"}))
    message = refusal(f"{NAME}:v0")
    assert repr(path) in message
    assert "would leave its folder" in message
    assert server.asked["GetArtifactMembershipFileUrls"] == 0
    assert kept(cache) == []


@pytest.mark.parametrize(
    ("source", "is_one"),
    [
        ("reef/kelp/model-x:v0", True),
        ("kelp/model-x", True),
        ("model-x:latest", True),
        ("https://wandb.ai/reef/kelp/artifacts/model/model-x/v0", True),
        ("wandb-artifact://reef/kelp/model-x:v0", True),
        ("model-x", False),
        ("runs/kelp/last.ckpt", False),
        ("./kelp/model-x", False),
        ("/data/kelp/model-x", False),
        ("~/kelp", False),
        ("C:\\kelp\\model-x", False),
        ("C:/kelp/model-x", False),
        ("a/b/c/d", False),
    ],
)
def test_artifact_names_and_paths(source: str, is_one: bool) -> None:
    assert is_artifact_name(source) is is_one
