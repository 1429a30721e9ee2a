"""Choice, loading and running of an exported model."""
