"""Networks, one architecture a file, and the allow-list from which model packages may choose."""

from medseg.networks.registry import build_network

__all__ = ["build_network"]
