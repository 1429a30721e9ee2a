"""The report: results, figures, HTML, W&B."""
