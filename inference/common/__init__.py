"""Shared by train, inference and eval: errors, rasters, areas, files, progress and command lines."""
