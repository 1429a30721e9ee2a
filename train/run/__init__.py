"""A training run: fitting, checkpoints, results, pictures, model card."""
