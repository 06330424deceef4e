"""Synthetic cars: seeded procedural drawings that stand in for photographs when there are none."""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from app.images.arrays import ImageArray

OVERSAMPLING = 2


def draw_cars(count: int, width: int, height: int, seed: int) -> ImageArray:
    """Draw side views of cars that differ in colour, shape, place and surroundings.

    Returns:
        (count, height, width, 3) uint8. The first images of a longer set are those of a shorter one.
    """
    streams = np.random.SeedSequence(seed).spawn(count)
    return np.stack([_draw_car(np.random.default_rng(stream), width, height) for stream in streams])


def _draw_car(random: np.random.Generator, width: int, height: int) -> ImageArray:
    w, h = width * OVERSAMPLING, height * OVERSAMPLING
    canvas = _background(random, w, h)
    pen = ImageDraw.Draw(canvas)
    left, right = random.uniform(0.04, 0.14) * w, random.uniform(0.86, 0.96) * w
    length = right - left
    ground = random.uniform(0.78, 0.88) * h
    wheel = random.uniform(0.075, 0.1) * length
    belt = ground - wheel - random.uniform(0.2, 0.28) * h
    roof = belt - random.uniform(0.16, 0.3) * h
    paint = tuple(random.integers(20, 236, 3).tolist())
    shade = tuple(int(0.65 * c) for c in paint)
    glass = tuple(random.integers(25, 90, 3).tolist())
    nose, tail = random.uniform(0.02, 0.06, 2) * h

    def at(fraction: float) -> float:
        return float(left + fraction * length)

    pen.ellipse((at(0.02), ground - 0.03 * h, at(0.98), ground + 0.05 * h), fill=(25, 25, 28))
    sill = ground - 0.6 * wheel
    pen.polygon(
        [(at(0), sill), (at(0), belt + nose + 0.05 * h), (at(0.06), belt + nose), (at(0.28), belt),
         (at(0.9), belt), (at(1), belt + tail), (at(1), sill)],
        fill=paint,
    )  # fmt: skip
    pen.rectangle((at(0), sill - 0.06 * h, at(1), sill), fill=shade)
    front, back = random.uniform(0.26, 0.34), random.uniform(0.78, 0.94)
    slope_front, slope_back = random.uniform(0.08, 0.16), random.uniform(0.03, 0.14)
    cabin = [
        (at(front), belt),
        (at(front + slope_front), roof),
        (at(back - slope_back), roof),
        (at(back), belt),
    ]
    pen.polygon(cabin, fill=paint)
    centre = (sum(x for x, _ in cabin) / 4, sum(y for _, y in cabin) / 4)
    pen.polygon(
        [(centre[0] + 0.88 * (x - centre[0]), centre[1] + 0.8 * (y - centre[1])) for x, y in cabin],
        fill=glass,
    )
    pillar = at((front + back) / 2)
    pen.line((pillar, roof, pillar, belt), fill=paint, width=max(2, w // 50))
    for x in (at(random.uniform(0.16, 0.22)), at(random.uniform(0.78, 0.84))):
        for radius, colour in (
            (wheel, (22, 22, 24)),
            (0.6 * wheel, (170, 172, 178)),
            (0.2 * wheel, (60, 60, 64)),
        ):
            pen.ellipse(
                (x - radius, ground - wheel - radius, x + radius, ground - wheel + radius), fill=colour
            )
    pen.ellipse((at(0.005), belt + nose + 0.03 * h, at(0.05), belt + nose + 0.09 * h), fill=(245, 240, 205))
    pen.rectangle((at(0.97), belt + tail + 0.03 * h, at(1), belt + tail + 0.1 * h), fill=(190, 25, 25))
    if random.random() < 0.5:
        canvas = canvas.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    small = canvas.filter(ImageFilter.GaussianBlur(0.6)).resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(small)


def _background(random: np.random.Generator, width: int, height: int) -> Image.Image:
    """A sky over a road, each a vertical gradient."""
    horizon = int(random.uniform(0.45, 0.65) * height)
    sky, haze = random.integers(120, 250, 3), random.integers(170, 255, 3)
    far, near = random.integers(80, 150, 3), random.integers(50, 130, 3)
    rows = np.concatenate([
        np.linspace(sky, haze, horizon),
        np.linspace(far, near, height - horizon),
    ])  # fmt: skip
    return Image.fromarray(np.repeat(rows[:, None].astype(np.uint8), width, axis=1))
