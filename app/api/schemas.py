"""Schemas of queries, bodies and answers: pydantic models that check input and that OpenAPI shows."""

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from typing_extensions import TypeAliasType

from app.api.content_negotiation import format_name
from app.codes.codec import SMALLEST_BUDGET
from app.codes.wire import LONGEST
from app.images.other_formats.compare import FormatName
from app.inference.packer import MAX_BUDGETS
from app.model.latents import MAX_SEED
from app.settings import MAX_FRAMES

MIN_SIZE, MAX_SIZE = 16, 2048
MIN_WAYPOINTS, MAX_WAYPOINTS = 2, 16
DEFAULT_STEPS = 8
PREVIEW_SIZE = 1024
DEFAULT_BUDGET = 94

MAX_LATENT = 1e6
"""Bound of the numbers in latents: what is in them is about 1, and from about 1e20 on decoders overflow."""


def whole_number(value: object) -> object:
    """An integer where JSON has it with a fraction of zero: 61.0 is one (JSON Schema, 6.1.1)."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(whole_number)
Coordinate = Annotated[float, Field(ge=-MAX_LATENT, le=MAX_LATENT)]
# Where both bounds of a length stand in one place, some clients make a type of 256 places of it.
Latent = TypeAliasType(
    "Latent", Annotated[list[Coordinate], Field(json_schema_extra={"minItems": "latent_dim"})]
)
LatentItem = Annotated[Latent, Field(json_schema_extra={"maxItems": "latent_dim"})]
Seed = Annotated[
    Annotated[int, Field(ge=0, le=MAX_SEED), WHOLE] | None,
    Field(description=f"an integer from 0 to {MAX_SEED}"),
]
Refine = Annotated[bool, Field(description="true or false: bring the latents nearer to their images")]
IGNORED = "Accepted and ignored, so that an answer is a valid body as it stands."
ANSWERED = "As /compress answers it: its codes are taken in place of latents."
Ignored = Annotated[Any, Field(description=IGNORED)]
LIKENESS = "How much an image looks like one car, from 0 to 1: below 0.5 it does not. Null where none tells."
DataURL = Annotated[
    str,
    Field(description="An image file as data URL.", pattern="^data:image/(png|webp|jpeg|avif);base64,"),
]
DataURLs = Annotated[
    list[DataURL], Field(default_factory=list, description="Left out where `images` is `none`.")
]

NAMED = BeforeValidator(format_name)
FORMAT = Field(default=None, description="Format of the answer; wins over Accept.")


class Options(BaseModel):
    """What a client may choose. A description completes the sentence `must be ...` that a client is told."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class EncodeQuery(Options):
    """Query of /encode; as npy, the answer is its `latents`."""

    sample: bool = Field(default=False, description="true or false: draw the latents from N(mean, std^2)")
    refine: Refine = False
    seed: Seed = None
    format: Annotated[Literal["json", "npy"] | None, NAMED] = FORMAT


Size = Annotated[
    Annotated[int, Field(ge=MIN_SIZE, le=MAX_SIZE), WHOLE] | None,
    Field(description=f"an integer from {MIN_SIZE} to {MAX_SIZE}: pixels of the longer edge of each picture"),
]


class SizeQuery(Options):
    """What every endpoint that answers images can be asked."""

    size: Size = None
    images: Literal["png", "webp", "jpeg", "avif", "none"] = Field(
        default="png",
        description='"png", "webp", "jpeg" or "avif", what the data URLs in JSON are, or "none", which '
        "leaves them out",
    )


class ImageQuery(SizeQuery):
    """Query of the endpoints that answer images."""

    format: Annotated[Literal["png", "jpeg", "webp", "avif", "json"] | None, NAMED] = FORMAT


class PreviewQuery(Options):
    """Query of /preview."""

    size: Annotated[int, Field(ge=MIN_SIZE, le=MAX_SIZE), WHOLE] = Field(
        default=PREVIEW_SIZE,
        description=f"an integer from {MIN_SIZE} to {MAX_SIZE}: the most pixels of the longer edge",
    )
    format: Annotated[Literal["webp", "jpeg", "png", "avif"] | None, NAMED] = FORMAT


class ReconstructQuery(ImageQuery):
    """Query of /reconstruct."""

    refine: Refine = False


class SampleOptions(Options):
    """Body of POST /sample, query of GET /sample."""

    count: Annotated[int, Field(ge=1, le=64), WHOLE] = Field(default=1, description="an integer from 1 to 64")
    seed: Seed = None
    temperature: float = Field(default=1.0, ge=0, le=2, description="a number from 0 to 2")
    prior: Literal["fitted", "standard"] | None = Field(
        default=None, description='"fitted" (unless given, where the model has such a prior) or "standard"'
    )


class SampleQuery(SampleOptions, SizeQuery):
    """Query of /sample; in that of POST the options count like those in the body. As npy, the answer is its
    `latents`."""

    format: Annotated[Literal["png", "jpeg", "webp", "avif", "json", "npy"] | None, NAMED] = FORMAT


class PathOptions(Options):
    """How /interpolate goes from one waypoint to the next."""

    steps: Annotated[int, Field(ge=2, le=MAX_FRAMES), WHOLE] | None = Field(
        default=None,
        description=f"an integer from 2 to {MAX_FRAMES}, {DEFAULT_STEPS} unless given: frames over the whole "
        "path, both ends included",
    )
    lambdas: list[Annotated[float, Field(ge=0, le=1)]] | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_FRAMES,
        description=f"1 to {MAX_FRAMES} numbers from 0 to 1, with two waypoints only and instead of steps",
    )
    method: Literal["linear", "spherical"] = Field(default="linear", description='"linear" or "spherical"')


class PathQuery(PathOptions, SizeQuery):
    """Query of /interpolate, which answers animations too; the options count like those in the body. As npy,
    the answer is its `latents`."""

    animate: bool = Field(
        default=False, description="true or false: an animation, which a GIF always is, instead of a row"
    )

    format: Annotated[Literal["png", "jpeg", "webp", "avif", "gif", "json", "npy"] | None, NAMED] = FORMAT


class WaypointsQuery(PathQuery):
    """Query of GET /interpolate; it has either `seed` or `code`."""

    seed: list[Annotated[int, Field(ge=0, le=MAX_SEED), WHOLE]] | None = Field(
        default=None,
        min_length=MIN_WAYPOINTS,
        max_length=MAX_WAYPOINTS,
        description=f"{MIN_WAYPOINTS} to {MAX_WAYPOINTS} integers from 0 to {MAX_SEED}, repeated or "
        "comma-separated: waypoints, each the car that /sample gives for that seed",
    )
    code: list[str] | None = Field(
        default=None,
        min_length=MIN_WAYPOINTS,
        max_length=MAX_WAYPOINTS,
        description=f"{MIN_WAYPOINTS} to {MAX_WAYPOINTS} codes instead, repeated or comma-separated",
    )


class CompressQuery(Options):
    """Query of /compress. As bin, the answer is the bytes of the one code."""

    bytes: list[Annotated[int, Field(ge=SMALLEST_BUDGET, le=LONGEST), WHOLE]] = Field(
        default=[DEFAULT_BUDGET],
        min_length=1,
        max_length=MAX_BUDGETS,
        description=f"1 to {MAX_BUDGETS} integers from {SMALLEST_BUDGET} to {LONGEST}, repeated or "
        "comma-separated: the most bytes of a code, of which each picture gets one for each",
    )
    refine: bool | None = Field(
        default=None,
        description="true or false: bring the latents of pictures nearer to them; unless given, where the "
        "model can",
    )
    images: Literal["png", "webp", "jpeg", "avif", "none"] = Field(
        default="none",
        description='"png", "webp", "jpeg" or "avif", what the data URLs of the decoded codes are, or '
        '"none", which leaves them out',
    )
    others: list[FormatName] = Field(
        default=[],
        max_length=len(get_args(FormatName)),
        description='"webp", "avif", "jpeg", "blurhash" or "thumbhash", repeated or comma-separated: formats '
        "that each picture is put into as well, under the same numbers of bytes",
    )
    format: Annotated[Literal["json", "bin"] | None, NAMED] = FORMAT


class CodesQuery(ImageQuery):
    """Query of GET /decode."""

    code: list[str] = Field(
        min_length=1,
        description="codes, repeated or comma-separated",
        json_schema_extra={"maxItems": "max_items"},
    )


class CarQuery(Options):
    """Query of the picture of one code."""

    size: Size = None
    letterbox: bool = Field(
        default=False,
        description="true or false: the whole picture as the model has it, not in the shape of the original",
    )
    format: Annotated[Literal["png", "jpeg", "webp", "avif"] | None, NAMED] = FORMAT


class FileQuery(Options):
    """Query of files of the model."""

    sha256: str | None = Field(
        default=None,
        pattern="^[0-9a-f]{64}$",
        description="the sha256 of the file, 64 lower-case hexadecimal digits: that file or none",
    )


class CodesItem(BaseModel):
    """The codes of one image; all else in it is ignored."""

    codes: list[str]


class LatentsBody(Options):
    """Body of /decode, 4 MiB at most; it has one of `latents`, `codes` and `items`. The answers of /encode,
    /sample and /compress are valid bodies as they stand."""

    latents: list[LatentItem] = Field(
        default_factory=list,
        min_length=1,
        description="Points of the latent space, `latent_dim` numbers each.",
        json_schema_extra={"maxItems": "max_items"},
    )
    codes: list[str] = Field(
        default_factory=list,
        min_length=1,
        description="Codes in place of latents.",
        json_schema_extra={"maxItems": "max_items"},
    )
    items: list[CodesItem] = Field(default_factory=list, min_length=1, description=ANSWERED)
    model: str | None = Field(default=None, description="the id of the model the latents are of")
    std: Ignored = None
    seed: Ignored = None
    images: Ignored = None
    psnr: Ignored = None
    ssim: Ignored = None
    likeness: Ignored = None
    lambdas: Ignored = None


class PathBody(PathOptions, LatentsBody):
    """JSON body of /interpolate: waypoints, and the path between them."""

    latents: list[LatentItem] = Field(
        default_factory=list,
        min_length=MIN_WAYPOINTS,
        max_length=MAX_WAYPOINTS,
        description="Waypoints in the latent space, `latent_dim` numbers each.",
    )
    codes: list[str] = Field(
        default_factory=list,
        min_length=MIN_WAYPOINTS,
        max_length=MAX_WAYPOINTS,
        description="Codes as waypoints in place of latents.",
    )


class PathForm(PathOptions):
    """Fields of a multipart body of /interpolate; `lambdas` is comma-separated or repeated."""

    image: list[bytes] = Field(
        min_length=MIN_WAYPOINTS,
        max_length=MAX_WAYPOINTS,
        description="Waypoints: 2 to 16 images.",
        json_schema_extra={"items": {"type": "string", "format": "binary"}},
    )


class PicturesForm(Options):
    """Fields of a multipart body with images."""

    image: list[bytes] = Field(
        min_length=1,
        description="An image; repeat the field for more.",
        json_schema_extra={"items": {"type": "string", "format": "binary"}, "maxItems": "max_items"},
    )


class EncodeAnswer(BaseModel):
    """The posterior of each image."""

    model: str
    latents: list[LatentItem] = Field(
        description="Means, refined where `refine` is true; draws around them where `sample` is."
    )
    std: list[LatentItem] = Field(description="Standard deviations, always the encoder's own.")
    likeness: list[float] | None = Field(default=None, description=LIKENESS)


class DecodeAnswer(BaseModel):
    """An image for each latent."""

    model: str
    images: DataURLs


class ReconstructAnswer(EncodeAnswer):
    """Each image as the model sees it again, and how close it comes to the fitted input."""

    images: DataURLs
    psnr: list[float] = Field(description="Peak signal-to-noise ratio in dB.")
    ssim: list[float] = Field(description="Structural similarity, 1 for equal images.")


class SampleAnswer(BaseModel):
    """Images drawn from the prior, and what repeats them."""

    model: str
    seed: int
    latents: list[LatentItem]
    images: DataURLs


class PathAnswer(BaseModel):
    """The frames of the path."""

    model: str
    lambdas: list[float] = Field(
        description="Place of each frame on the path, 0 at its start and 1 at its end."
    )
    latents: list[LatentItem]
    images: DataURLs


class ImageInFormat(BaseModel):
    """An image in another format, at its best under each number of bytes; null where its files are larger."""

    format: FormatName
    bytes: list[int | None]
    psnr: list[float | None]
    images: list[DataURL | None] = Field(
        description="What each shows, as WebP unless `images` asks for another kind."
    )
    smallest: int = Field(description="The bytes of its smallest file of this image.")


class CompressedImage(BaseModel):
    """The codes of one image, one for each number of bytes that was asked for, and what is seen of them."""

    codes: list[str] = Field(description="URL-safe base64 without padding.")
    bytes: list[int] = Field(description="How many each has; never more than was asked for.")
    psnr: list[float] = Field(description="Of what each decodes to: peak signal-to-noise ratio in dB.")
    ssim: list[float] = Field(description="Structural similarity of the same.")
    box: list[int] = Field(
        min_length=4,
        max_length=4,
        description="Left, top, right and bottom of what is no border in the model's picture.",
    )
    likeness: float | None = Field(default=None, description=LIKENESS)
    images: list[DataURL] = Field(
        default_factory=list, description="What each decodes to, where `images` asks for it."
    )
    others: list[ImageInFormat] = Field(
        default_factory=list, description="The same image in other formats, where `others` asks for them."
    )


class CompressAnswer(BaseModel):
    """The codes of each image, in the order of the request."""

    model: str
    items: list[CompressedImage]


class FieldProblem(BaseModel):
    """What is wrong in one place of the request."""

    place: str
    message: str


class Problem(BaseModel):
    """An error, as RFC 9457 has it."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    errors: list[FieldProblem] | None = Field(
        default=None, description="With status 422: each place that is wrong."
    )
