"""Where tiles lie, how they are cut, and how their predictions are blended."""
