"""Metadata for the programs that run exported ONNX files: QGIS Deepness and habitat-mapper (Kelp-O-Matic)."""

import json

from inference.card import ModelCard


def deepness_metadata(card: ModelCard) -> dict[str, str]:
    """Return the metadata of an ONNX file for the QGIS plugin Deepness.

    Deepness always divides pixels by 255, so mean and std are scaled to that divisor. It needs a file with
    probabilities and one square size; it can't use logits or dynamic sizes.

    Returns:
        Names to values; every value is JSON text.
    """
    # max_pixel_value "auto" is that of uint8, the dtype that Deepness reads from a QGIS layer.
    scale = card.divisor("uint8") / 255
    values: dict[str, object] = {
        "model_type": "Segmentor",
        "class_names": {str(index): name for index, name in enumerate(card.class_names)},
        # The plugin's documentation names tiles_size, its code reads tile_size.
        "tile_size": card.tile_size,
        "tiles_size": card.tile_size,
        "tiles_overlap": 50,
        "standardization_mean": [mean * scale for mean in card.mean],
        "standardization_std": [std * scale for std in card.std],
        "seg_thresh": card.threshold,
        "seg_small_segment": 0,
    }
    if card.ground_sample_distance is not None:
        values["resolution"] = card.ground_sample_distance * 100
    return {name: json.dumps(value, ensure_ascii=False) for name, value in values.items()}


def habitat_mapper_config(card: ModelCard, onnx_file: str) -> str:
    """Return the JSON config with which habitat-mapper (Kelp-O-Matic) runs an ONNX file in the same folder.

    habitat-mapper reads the config from its own folder `configs`, and resolves the file's path against its working
    directory.

    Args:
        card: Card of the model.
        onnx_file: Name of the ONNX file.
    """
    classes = ", ".join(f"{index} {name}" for index, name in enumerate(card.class_names))
    bands = " ".join(f"-b {band}" for band in card.bands)
    description = f"{card.name}, {card.task}: {classes}."
    if card.bands != list(range(1, len(card.bands) + 1)):
        description += f" It needs these bands in this order: hab segment {bands}"
    content = {
        # habitat-mapper tells its models apart by name and revision.
        "name": f"{card.name}-{card.task}" + ("-int8" if card.precision == "int8" else ""),
        "revision": card.revision,
        "description": description,
        "dependencies": [onnx_file],
        "model_filename": onnx_file,
        "input_channels": len(card.bands),
        "activation": card.activation if card.output == "logits" else None,
        "normalization": card.normalization,
        "mean": card.mean,
        "std": card.std,
        "max_pixel_value": card.max_pixel_value,
        # The default of habitat-mapper, 0, would mark the background of every map as nodata.
        "nodata_value": 255,
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
