"""Preparation of a data set: mosaics and labels into label rasters, blocks and splits."""
