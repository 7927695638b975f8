"""Networks, one architecture a file, and the allow-list from which model packages may choose."""

from medseg.networks.inter_slice import InterSliceTransformer, positional_encoding
from medseg.networks.registry import build_network
from medseg.networks.tsfmunet import TSFMUNet

__all__ = ["InterSliceTransformer", "TSFMUNet", "build_network", "positional_encoding"]
