"""Recipes of fine-tuning: what is trained when, how fast, and which weights count."""
