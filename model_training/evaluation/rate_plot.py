"""The picture of a rate-distortion comparison."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib

from model_training.compression.image_formats import Curve

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.ticker import ScalarFormatter

TICKS = (8, 16, 32, 64, 128, 256, 512, 1024, 2048)


def rate_distortion_plot(ours: Curve, others: Sequence[Curve], target: Path) -> None:
    """PSNR and SSIM over the bytes of a picture; bare curves are dashed, in the colour of the one before."""
    figure, panels = plt.subplots(1, 2, figsize=(13, 4.6), layout="constrained")
    for panel, key, title in ((panels[0], "psnr", "PSNR (dB)"), (panels[1], "ssim", "SSIM")):
        colour = 0
        for curve in (ours, *others):
            colour += not curve.bare
            panel.plot(
                [point.bytes for point in curve.points],
                [getattr(point, key) for point in curve.points],
                "o--" if curve.bare else "o-",
                color=f"C{colour - 1}",
                alpha=0.45 if curve.bare else 1,
                label=curve.name,
                linewidth=2.4 if curve is ours else 1.2,
                markersize=3,
            )
        panel.set(title=title, xlabel="bytes per picture", xscale="log")
        panel.set_xticks(TICKS)
        panel.xaxis.set_major_formatter(ScalarFormatter())
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    panels[0].legend()
    figure.savefig(target, dpi=110)
    plt.close(figure)
