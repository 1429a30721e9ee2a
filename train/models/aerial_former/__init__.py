"""AerialFormer (Hanyu et al. 2024): Swin encoder, CNN stem and a decoder of multi-dilated convolutions."""

from train.models.aerial_former.aerial_former import AerialFormerNetwork

__all__ = ["AerialFormerNetwork"]
