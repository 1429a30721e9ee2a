"""Training run: fitting, checkpoints, results, figures and model card."""
