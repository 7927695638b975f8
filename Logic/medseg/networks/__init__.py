"""Networks, one architecture a file, and the allow-list from which model packages may choose."""

from medseg.networks.click_network import ClickNetwork
from medseg.networks.convolutional_pe_med import ConvolutionalPEMED
from medseg.networks.ensemble import Ensemble
from medseg.networks.inter_slice import InterSliceTransformer, positional_encoding
from medseg.networks.lapirn import ConditionalLapIRN
from medseg.networks.mpunet import MPUNet
from medseg.networks.nnunet import PlainConvUNet, ResidualEncoderUNet
from medseg.networks.patch_transformer import ConvFreeTransformer
from medseg.networks.pe_med import PEMED
from medseg.networks.published_unet import MPUNetBaseline
from medseg.networks.registration_network import RegistrationNetwork, VoxelMorph
from medseg.networks.registry import build_network
from medseg.networks.slice_model import SliceModel
from medseg.networks.tm_dca import TMDCA
from medseg.networks.tsfmunet import TSFMUNet
from medseg.networks.two_headed_swin_unetr import TwoHeadedSwinUNETR
from medseg.networks.unet3d import UNet3D

__all__ = [
    "PEMED",
    "TMDCA",
    "ClickNetwork",
    "ConditionalLapIRN",
    "ConvFreeTransformer",
    "ConvolutionalPEMED",
    "Ensemble",
    "InterSliceTransformer",
    "MPUNet",
    "MPUNetBaseline",
    "PlainConvUNet",
    "RegistrationNetwork",
    "ResidualEncoderUNet",
    "SliceModel",
    "TSFMUNet",
    "TwoHeadedSwinUNETR",
    "UNet3D",
    "VoxelMorph",
    "build_network",
    "positional_encoding",
]
