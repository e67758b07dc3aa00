"""Backbones, heads, and the network that joins them."""

from medmtl.models.backbone import BACKBONES, Backbone
from medmtl.models.branches import NOTHING_SHARED, Branches
from medmtl.models.case_head import CaseHead, CaseInputs, FrameSummary
from medmtl.models.descriptors import Ring, describe_cycle, describe_frames, ring_of
from medmtl.models.features import Features
from medmtl.models.frames import extreme_frames
from medmtl.models.heads import DenseHead, Head, SegmentationHead, TissueHead
from medmtl.models.monai_networks import SegResNetBackbone, SwinUNETRBackbone
from medmtl.models.network import MultiTaskNetwork
from medmtl.models.nnunet import NNUNet
from medmtl.models.unet import UNet

__all__ = [
    "BACKBONES",
    "NOTHING_SHARED",
    "Backbone",
    "Branches",
    "CaseHead",
    "CaseInputs",
    "DenseHead",
    "Features",
    "FrameSummary",
    "Head",
    "MultiTaskNetwork",
    "NNUNet",
    "Ring",
    "SegResNetBackbone",
    "SegmentationHead",
    "SwinUNETRBackbone",
    "TissueHead",
    "UNet",
    "describe_cycle",
    "describe_frames",
    "extreme_frames",
    "ring_of",
]
