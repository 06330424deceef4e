"""Arrays of images: the type of what decoding gives, the model takes and encoding reads."""

import numpy as np
from numpy.typing import NDArray

ImageArray = NDArray[np.uint8]
"""RGB in bytes: one image (H, W, 3), or several of one size (N, H, W, 3)."""
