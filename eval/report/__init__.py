"""Results of an evaluation as text, HTML, JSON, CSV and Weights & Biases records."""
