"""Polygons of a map, and tables of sites."""
