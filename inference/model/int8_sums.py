"""Check of a CPU's sums of 8-bit products.

CPUs without VNNI (most of before 2021) add two products of 8 bits in 16 bits, in which the sum
saturates: 255 x 127 + 255 x 127 becomes 32,767. ONNX Runtime has an exact, slower way for them (`EXACT_INT8_SUMS` in
`inference/common/cpu.py`), OpenVINO has none (https://docs.openvino.ai/latest/pot_saturation_issue.html).
"""

from typing import Any

import numpy as np

_CHANNELS, _SIDE = 32, 4
_LARGEST = 255, 127  # of an activation (uint8) and of a weight (int8)


def openvino_saturates(core: Any) -> bool:
    """Return True if OpenVINO's sums of 8-bit products saturate on this CPU.

    A convolution of the largest activations and weights is run, in some 40 ms; its exact result is known.

    Args:
        core: An `openvino.Core`.
    """
    import openvino
    from openvino import opset13 as operations

    activation, weight = _LARGEST
    pixels = operations.parameter([1, _CHANNELS, _SIDE, _SIDE], np.float32)
    ends = [operations.constant(np.float32(end)) for end in (0, activation)]
    quantised = operations.fake_quantize(pixels, *ends, *ends, activation + 1)
    weights = operations.constant(np.full((_CHANNELS, _CHANNELS, 1, 1), weight, np.int8))
    scaled = operations.multiply(operations.convert(weights, np.float32), operations.constant(np.float32(1)))
    sums = operations.convolution(quantised, scaled, [1, 1], [0, 0], [0, 0], [1, 1])
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1, "ENABLE_CPU_PINNING": False}
    compiled = core.compile_model(openvino.Model([sums], [pixels]), "CPU", options)
    found = compiled(np.full((1, _CHANNELS, _SIDE, _SIDE), activation, np.float32))[0]
    return bool((found != _CHANNELS * activation * weight).any())
