"""Networks that no library has, and the one place where pretrained weights are obtained."""
