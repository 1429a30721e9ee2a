"""Schema, registries and loader of training YAMLs, and the configs that come with the project."""
