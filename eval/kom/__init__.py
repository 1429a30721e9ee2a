"""Running a model in Kelp-O-Matic (habitat-mapper) and comparing the maps."""
