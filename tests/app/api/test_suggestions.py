"""Which known name an unknown one is taken for."""

import pytest

from app.api.schemas import EncodeQuery, LatentsBody, Options, PathBody, PathQuery, SampleOptions, SampleQuery
from app.api.suggestions import suggestion, unknown
from app.api.validation import known_names


@pytest.mark.parametrize(
    ("model", "name", "meant"),
    [
        (SampleQuery, "sed", "seed"),
        (SampleQuery, "Seed", "seed"),
        (SampleQuery, "n", "count"),
        (SampleQuery, "num", "count"),
        (SampleQuery, "number", "count"),
        (SampleQuery, "samples", "count"),
        (SampleQuery, "fromat", "format"),
        (SampleQuery, "width", "size"),
        (SampleOptions, "temp", "temperature"),
        (SampleOptions, "temprature", "temperature"),
        (LatentsBody, "z", "latents"),
        (LatentsBody, "latent", "latents"),
        (LatentsBody, "latnets", "latents"),
        (PathBody, "lambda", "lambdas"),
        (PathBody, "alpha", "lambdas"),
        (PathBody, "t", "lambdas"),
        (PathBody, "n", "steps"),
        (PathBody, "step", "steps"),
        (PathQuery, "frames", "steps"),
        (EncodeQuery, "samples", "sample"),
    ],
)
def test_a_name_is_taken_for_the_nearest_that_is_known(model: type[Options], name: str, meant: str) -> None:
    assert suggestion(name, known_names(model)) == meant


@pytest.mark.parametrize("name", ["file", "files", "images", "image[]", "photo", "picture", "Image", "img"])
def test_every_name_of_a_file_is_taken_for_image(name: str) -> None:
    assert suggestion(name, ("image",)) == "image"


@pytest.mark.parametrize("name", ["", "utm_source", "x" * 10_000, "\0"])
def test_a_name_like_none_stands_for_none(name: str) -> None:
    assert suggestion(name, known_names(SampleQuery)) is None


def test_fields_that_are_ignored_are_not_suggested() -> None:
    assert suggestion("imagse", known_names(LatentsBody)) is None
    assert known_names(LatentsBody) == ("latents", "codes", "model")


def test_all_known_names_are_listed_where_none_is_like_it_and_it_is_asked_for() -> None:
    assert unknown("field", "x", ("a", "b"), list_known=True) == "unknown field; there are `a`, `b`"
    assert unknown("parameter", "x", ("count", "seed")) == "unknown parameter"
    said = "unknown field; `size` is an option of the query, ?size="
    assert unknown("field", "size", ("count", "seed"), list_known=True, of_query=("size",)) == said
    assert unknown("field", "cuont", ("count", "seed")) == "unknown field; did you mean `count`?"
