"""Any image size for networks that need a multiple of their stride: extend inside, crop back."""

import torch.nn.functional as F
from torch import Tensor


def pad_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """Extends an image at its right and bottom edges by repeating its border pixels.

    Repeating works for any size (reflecting needs an image larger than the padding) and shows the network no value that
    the image does not have. There is no branch on the size, so that a traced or exported graph keeps the arithmetic.

    Args:
        image: `(N, B, H, W)`, any float dtype.
        multiple: What both sides of the result are divisible by.

    Returns:
        `(N, B, H', W')` with the smallest such `H' >= H` and `W' >= W`; crop with `[..., :H, :W]`.
    """
    height, width = image.shape[-2:]
    return F.pad(image, (0, -width % multiple, 0, -height % multiple), mode="replicate")
