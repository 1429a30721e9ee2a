"""Configs that the project ships."""

from pathlib import Path

CONFIGS = Path(__file__).resolve().parents[3] / "train" / "configs"
PREPARE = sorted(CONFIGS.rglob("prepare*.yml"))
"""Configs of `train.prepare`."""
TRAINING = sorted(set(CONFIGS.rglob("*.yml")) - set(PREPARE))
"""Configs of training runs."""
