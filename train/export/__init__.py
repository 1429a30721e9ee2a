"""From a checkpoint to files that others can run and trust."""
