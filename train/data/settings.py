"""What a config says of the data set: where it lies, and what the values of its labels mean."""

from pathlib import Path

from inference.common.errors import UserError
from train.configs.config import Config
from train.data.reader import LabelRule


def data_dir(name: str) -> Path:
    """The folder that `data_dir` names; draws the demo data set where it is asked for.

    Raises:
        UserError: There is no such folder.
    """
    if "://" in name:
        from train.data.demo import demo_data_dir

        return demo_data_dir(name)
    wanted = "data_module.data_dir: a folder with train/, val/ and test/"
    try:
        folder = Path(name).expanduser()
        if folder.is_dir():
            return folder
        found = "is no folder" if folder.exists() else "no such folder"
    except (RuntimeError, OSError) as error:
        raise UserError(f"{name}: {str(error).rstrip('.')} ({wanted})") from None
    raise UserError(f"{folder}: {found} ({wanted})")


def label_rule(config: Config) -> LabelRule:
    """How this config reads label files."""
    mapping = config.data_module.label_map or {}
    return LabelRule(config.labels, config.ignore_index, tuple(mapping.items()), config.data_module.label_nodata)


def background_index(config: Config) -> int | None:
    """The class that is background, None where there is none."""
    index = config.data_module.background_index
    if index == "none":
        return None
    return 0 if index is None else index


def class_names(config: Config) -> list[str]:
    """A name for each class."""
    given = config.data_module.class_names
    if given is not None:
        return list(given)
    if config.num_classes == 1:
        return ["background", "target"]
    background = background_index(config)
    return ["background" if i == background else f"class_{i}" for i in range(config.num_classes)]
