"""YAML to checkpoint to exported model."""
