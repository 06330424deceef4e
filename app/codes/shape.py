"""Shape of an original as the model's images keep it: the part of them that is not border."""

from app.images.letterbox import size_inside


def shape_count(width: int, height: int) -> int:
    """How many shapes fit inside width x height."""
    return width + height - 1


def shape_index(size: tuple[int, int], width: int, height: int) -> int:
    """Number of the shape of an image of a size: first those as wide as the model's, then those as high."""
    wide, high = size_inside(size, width, height)
    return high - 1 if wide == width else height + wide - 1


def shape_size(index: int, width: int, height: int) -> tuple[int, int]:
    """Width and height in the model's image of the shape of a number."""
    return (width, index + 1) if index < height else (index - height + 1, height)


def shape_box(index: int, width: int, height: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the original within the model's image."""
    wide, high = shape_size(index, width, height)
    left, top = (width - wide) // 2, (height - high) // 2
    return left, top, left + wide, top + high
