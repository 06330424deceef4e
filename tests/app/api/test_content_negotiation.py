"""Which format is answered."""

from collections.abc import Sequence
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from app.api.content_negotiation import (
    REPRESENTATIONS,
    Choice,
    Format,
    choose_format,
    format_of,
    offered_formats,
    path_with,
)
from app.api.schemas import EncodeQuery, ImageQuery, PathQuery
from app.errors import (
    InvalidField,
    NotAcceptable,
)

JSON = offered_formats(EncodeQuery)
IMAGES = offered_formats(ImageQuery)
ANIMATIONS = offered_formats(PathQuery)

BROWSER_IMAGE = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"
BROWSER_PAGE = (
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8"
)


def request(accept: Sequence[str] = (), query: str = "", **headers: str) -> Request:
    fields = [(b"accept", value.encode()) for value in accept]
    fields += [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "headers": fields, "query_string": query.encode()})


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ([], "png"),
        ([""], "png"),
        (["*/*"], "png"),
        (["image/*"], "png"),
        (["application/json"], "json"),
        (["application/*"], "json"),
        (["IMAGE/JPEG"], "jpeg"),
        (["image/jpeg;q=0.5, image/webp;q=0.6"], "webp"),
        (["image/png;q=0.1, */*"], "jpeg"),
        (["image/png;q=0, image/*"], "jpeg"),
        (["application/json, text/plain, */*"], "json"),
        (["application/json;q=0.9, */*;q=0.1"], "json"),
        (["text/html", "image/webp"], "webp"),
        (["image/webp;level=1"], "webp"),
        (["nonsense;;;, image/webp;q=high, image/jpeg"], "jpeg"),
        ([BROWSER_IMAGE], "avif"),
        ([BROWSER_PAGE], "avif"),
        (["image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5"], "avif"),
        (["image/webp,image/png,image/svg+xml,image/*;q=0.8,video/*;q=0.8,*/*;q=0.5"], "png"),
        (["image/avif;q=0.9,image/webp"], "webp"),
        (["image/avif;q=0,*/*"], "png"),
        (["image/png;q=0,image/jpeg;q=0,image/webp;q=0,image/*"], "avif"),
    ],
)
def test_accept_chooses_the_format(accept: list[str], chosen: Format) -> None:
    assert choose_format(request(accept), IMAGES) == Choice(chosen, None)


@pytest.mark.parametrize("accept", ["text/html", "image/gif", "image/jxl", "*/*;q=0", "image/png;q=0", "x"])
def test_where_nothing_is_acceptable_it_is_refused(accept: str) -> None:
    with pytest.raises(NotAcceptable, match="image/png"):
        choose_format(request([accept]), IMAGES)


@pytest.mark.parametrize("name", ANIMATIONS)
def test_query_wins_over_accept(name: Format) -> None:
    assert choose_format(request(["text/html"], f"size=5&format={name}"), ANIMATIONS) == Choice(
        name, "query.format"
    )


@pytest.mark.parametrize("name", ANIMATIONS)
def test_the_suffix_of_a_path_wins_over_all(name: Format) -> None:
    other = "format=json" if name == "png" else "format=png"
    assert choose_format(request(["text/html"], other), ANIMATIONS, name) == Choice(name, "path")


def test_a_format_is_also_known_by_its_suffix() -> None:
    assert choose_format(request([], "format=jpg"), IMAGES) == Choice("jpeg", "query.format")
    assert ImageQuery(format="jpg").format == "jpeg"  # type: ignore[arg-type]


@pytest.mark.parametrize("name", REPRESENTATIONS)
def test_the_path_of_a_format_names_it(name: Format) -> None:
    assert format_of(path_with("/sample", name)) == name


@pytest.mark.parametrize("path", ["/sample", "/", "", "/sample.", "/sample.jpeg", "/a.png/b", "/png"])
def test_other_paths_name_none(path: str) -> None:
    assert format_of(path) is None


def test_animation_by_accept_only_where_offered() -> None:
    assert choose_format(request(["image/gif"]), ANIMATIONS).format == "gif"
    with pytest.raises(NotAcceptable):
        choose_format(request([], "format=gif"), IMAGES)


def test_an_endpoint_of_json_alone_answers_nothing_else() -> None:
    assert choose_format(request(), JSON).format == "json"
    with pytest.raises(NotAcceptable):
        choose_format(request(["image/png"]), JSON)


@pytest.mark.parametrize("name", ["", "bmp", "PNG", "png,jpeg"])
def test_an_unknown_format_is_refused(name: str) -> None:
    with pytest.raises(InvalidField) as caught:
        choose_format(request([], f"format={name}"), IMAGES)
    assert caught.value.problems[0][0] == "query.format"


MEDIA_TYPES = {name: each.media_type for name, each in REPRESENTATIONS.items()}
RANGES = st.sampled_from(["*/*", "image/*", "text/html", *MEDIA_TYPES.values()])
QUALITIES = st.one_of(st.none(), st.sampled_from(["0", "0.001", "1", "x", "nan", "-1", "9"]))


@given(st.lists(st.tuples(RANGES, QUALITIES), min_size=1, max_size=6))
def test_what_is_chosen_was_offered_and_not_ruled_out(ranges: list[tuple[str, str | None]]) -> None:
    accept = ", ".join(name if quality is None else f"{name};q={quality}" for name, quality in ranges)
    try:
        chosen = choose_format(request([accept]), ANIMATIONS).format
    except NotAcceptable:
        assert ("*/*", None) not in ranges or len({quality for _, quality in ranges}) > 1
        return
    assert chosen in ANIMATIONS
    family = {MEDIA_TYPES[chosen], MEDIA_TYPES[chosen].partition("/")[0] + "/*", "*/*"}
    assert family.intersection(name for name, _ in ranges)


@given(st.text(max_size=60))
def test_any_accept_header_is_understood_or_refused(accept: str) -> None:
    with suppress(NotAcceptable):
        assert choose_format(request([accept.encode("utf-8").decode("latin-1")]), IMAGES).format in IMAGES


def test_the_formats_of_an_endpoint_are_those_of_its_query() -> None:
    assert offered_formats(EncodeQuery) == ("json", "npy")
    assert offered_formats(ImageQuery) == ("png", "jpeg", "webp", "avif", "json")
    assert offered_formats(PathQuery) == ("png", "jpeg", "webp", "avif", "gif", "json", "npy")
