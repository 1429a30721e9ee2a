"""Areas of classes with error bars, from a probability sample of checked pixels."""
