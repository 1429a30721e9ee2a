"""Training of segmentation models from a YAML config, and their export."""
