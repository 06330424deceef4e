"""Colour profiles for tests, made from their primaries: Pillow can make that of sRGB only."""

import struct

SRGB = ((0.4360, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141))
DISPLAY_P3 = ((0.5151, 0.2412, -0.0011), (0.2920, 0.6922, 0.0419), (0.1571, 0.0666, 0.7841))
ADOBE_RGB = ((0.6097, 0.3111, 0.0195), (0.2053, 0.6257, 0.0609), (0.1492, 0.0632, 0.7446))
"""X, Y and Z of red, green and blue, adapted to D50."""
WHITE = (0.9642, 1.0, 0.8249)


def rgb_profile(primaries: tuple[tuple[float, float, float], ...], gamma: float) -> bytes:
    """A profile of three primaries and one curve (ICC.1:2022, 8.3)."""
    tags = {
        kind: b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in colour))
        for kind, colour in zip((b"rXYZ", b"gXYZ", b"bXYZ", b"wtpt"), (*primaries, WHITE), strict=True)
    }
    return profile(b"RGB ", tags | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve(gamma)))


def grey_profile(gamma: float) -> bytes:
    """A profile of one curve for grey."""
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in WHITE))
    return profile(b"GRAY", {b"kTRC": curve(gamma), b"wtpt": white})


def curve(gamma: float) -> bytes:
    """A curve that is one power (ICC.1:2022, 10.6)."""
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)


def profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """A profile for displays of some tags (ICC.1:2022, 7)."""
    described = tags | {b"desc": b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + bytes(79)}
    table, content = struct.pack(">I", len(described)), b""
    for kind, tag in described.items():
        tag += bytes(-len(tag) % 4)
        table += kind + struct.pack(">II", 128 + 4 + 12 * len(described) + len(content), len(tag))
        content += tag
    body = table + content
    header = (
        struct.pack(">I", 128 + len(body))
        + bytes(4)
        + b"\2\x10\0\0mntr"
        + space
        + b"XYZ "
        + bytes(12)
        + b"acsp"
    )
    header = header.ljust(68, b"\0") + struct.pack(">3i", *(round(value * 65536) for value in WHITE))
    return header.ljust(128, b"\0") + body
