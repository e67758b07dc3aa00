"""The network's axes: the slice axis of a stack is the last, however the file stores it."""

from __future__ import annotations

import nibabel
import numpy as np

from medmtl.data.prepare import stack_axcodes


def network_axes(affine: np.ndarray) -> list[int]:
    """Which axis of a stored volume becomes the network's first, second and third."""
    own = nibabel.io_orientation(affine)
    wanted = nibabel.orientations.axcodes2ornt(tuple(stack_axcodes(affine)))
    return [int(np.flatnonzero(own[:, 0] == axis)[0]) for axis in wanted[:, 0]]
