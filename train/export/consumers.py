"""What the programs that run our ONNX files want to be told: QGIS Deepness and habitat-mapper."""

import json

from inference.card import ModelCard


def deepness(card: ModelCard) -> dict[str, str]:
    """Metadata of an ONNX file for the QGIS plugin Deepness; every value is JSON text.

    Deepness always divides pixels by 255, so that mean and std are given in those units. It needs probabilities and one
    square size; of logits or free sizes it can make nothing.
    """
    # auto: bytes, which are what Deepness gets from a QGIS layer.
    scale = card.divisor("uint8") / 255
    values: dict[str, object] = {
        "model_type": "Segmentor",
        "class_names": {str(index): name for index, name in enumerate(card.class_names)},
        # The documentation says tiles_size, the plugin reads tile_size.
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


def habitat_mapper(card: ModelCard, onnx_file: str) -> str:
    """The JSON with which habitat-mapper (Kelp-O-Matic) runs an ONNX file that lies beside it.

    habitat-mapper finds the file relative to its working directory, and the JSON in its own folder `configs`.
    """
    classes = ", ".join(f"{index} {name}" for index, name in enumerate(card.class_names))
    bands = " ".join(f"-b {band}" for band in card.bands)
    description = f"{card.name}, {card.task}: {classes}."
    if card.bands != list(range(1, len(card.bands) + 1)):
        description += f" Takes other bands than the first ones, in this order: hab segment {bands}"
    content = {
        "name": f"{card.name}-{card.task}",
        "revision": card.revision,
        "description": description,
        "dependencies": [onnx_file],
        "model_filename": onnx_file,
        "input_channels": len(card.bands),
        "activation": card.activation if card.output == "logits" else None,
        "normalization": "standard",
        "mean": card.mean,
        "std": card.std,
        "max_pixel_value": card.max_pixel_value,
        # Its default, 0, would declare the background of every map to be no data.
        "nodata_value": 255,
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
