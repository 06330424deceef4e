"""What is accepted from clients, and how the place of what is not is named."""

from typing import Any

import numpy as np
import orjson
import pytest

from app.api.schemas import (
    EncodeQuery,
    ImageQuery,
    LatentsBody,
    Options,
    PathBody,
    PathOptions,
    SampleOptions,
)
from app.api.validation import check_path, from_json, from_query, from_strings, read_latents, refuse_unknown
from app.errors import InvalidField, TooManyItems, WrongModel


def places(error: InvalidField) -> list[str]:
    return [place for place, _ in error.problems]


def read(latents: Any, **fields: Any) -> Any:
    return read_latents({"latents": latents, **fields}, "car-vae/1", dim=3, max_items=4)


def test_latents_become_an_array() -> None:
    latents = read([[1, 2.5, -3], [0, 1e-3, 16777217]], model="car-vae/1")
    assert latents.dtype == np.float32
    assert latents.tolist() == [[1, 2.5, -3], [0, float(np.float32(1e-3)), 16777216]]


def test_answered_latents_come_back_bit_by_bit() -> None:
    latents = np.random.RandomState(0).standard_normal((4, 3)).astype(np.float32) * np.float32(1e-5)
    text = orjson.dumps(latents, option=orjson.OPT_SERIALIZE_NUMPY)
    assert np.array_equal(read(orjson.loads(text)), latents)


@pytest.mark.parametrize("model", [None, "car-vae/1"])
def test_latents_of_the_served_model_or_of_none_are_accepted(model: str | None) -> None:
    assert read([[0, 0, 0]], model=model).shape == (1, 3)


def test_latents_of_another_model_are_refused() -> None:
    with pytest.raises(WrongModel, match="car-vae/1"):
        read([[0, 0, 0]], model="car-vae/2")
    with pytest.raises(InvalidField, match="model"):
        read([[0, 0, 0]], model=5)


@pytest.mark.parametrize(
    ("latents", "place"),
    [
        (None, "latents"),
        ([], "latents"),
        ({}, "latents"),
        ("text", "latents"),
        ([1, 2, 3], "latents[0]"),
        ([[1, 2, 3], [1, 2]], "latents[1]"),
        ([[1, 2, 3, 4]], "latents[0]"),
        ([[1, 2, 3], None], "latents[1]"),
        ([[1, 2, True]], "latents[0][2]"),
        ([[1, "2", 3]], "latents[0][1]"),
        ([[1, [2], 3]], "latents[0][1]"),
        ([[1, None, 3]], "latents[0][1]"),
        ([[1, 2, 3], [4, 5, 1e39]], "latents[1][2]"),
        ([[-1e300, 2, 3]], "latents[0][0]"),
        ([[float("nan"), 2, 3]], "latents[0][0]"),
    ],
)
def test_the_first_bad_place_of_latents_is_named(latents: Any, place: str) -> None:
    with pytest.raises(InvalidField) as caught:
        read(latents)
    assert places(caught.value) == [place]


def test_more_latents_than_allowed_are_refused() -> None:
    assert read([[0, 0, 0]] * 4).shape == (4, 3)
    with pytest.raises(TooManyItems, match="at most 4"):
        read([[0, 0, 0]] * 5)


def test_what_is_not_given_has_its_default() -> None:
    assert from_json(SampleOptions, {}) == SampleOptions(count=1, seed=None, temperature=1.0, prior=None)
    assert PathOptions() == PathOptions(steps=None, lambdas=None, method="linear")


@pytest.mark.parametrize(
    "values",
    [
        {"count": 1, "seed": None, "temperature": 0, "prior": "standard"},
        {"count": 64, "seed": 2**53 - 1, "temperature": 2, "prior": "fitted"},
        {"count": 1, "seed": 0, "temperature": 0.5},
    ],
)
def test_sample_options_within_their_bounds_are_accepted(values: dict[str, Any]) -> None:
    assert from_json(SampleOptions, values).model_dump(include=set(values)) == values


@pytest.mark.parametrize(
    ("model", "values", "place", "message"),
    [
        (SampleOptions, {"count": 0}, "count", "must be an integer from 1 to 64"),
        (SampleOptions, {"count": 65}, "count", "must be an integer from 1 to 64"),
        (SampleOptions, {"count": "3"}, "count", "must be an integer"),
        (SampleOptions, {"count": True}, "count", "must be an integer"),
        (SampleOptions, {"count": 1.5}, "count", "must be an integer"),
        (SampleOptions, {"count": None}, "count", "must be an integer"),
        (SampleOptions, {"seed": -1}, "seed", "must be an integer from 0"),
        (SampleOptions, {"seed": 2**53}, "seed", "must be an integer from 0"),
        (SampleOptions, {"seed": True}, "seed", "must be an integer from 0"),
        (SampleOptions, {"temperature": 2.1}, "temperature", "must be a number from 0 to 2"),
        (SampleOptions, {"temperature": False}, "temperature", "must be a number from 0 to 2"),
        (SampleOptions, {"prior": "flat"}, "prior", 'must be "fitted"'),
        (SampleOptions, {"cuont": 3}, "cuont", "unknown field"),
        (PathOptions, {"steps": 1}, "steps", "must be an integer from 2 to 64"),
        (PathOptions, {"lambdas": []}, "lambdas", "must be 1 to 64 numbers"),
        (PathOptions, {"lambdas": [0, 1.5]}, "lambdas[1]", "must be 1 to 64 numbers from 0 to 1"),
        (PathOptions, {"lambdas": [0.5] * 65}, "lambdas", "must be 1 to 64 numbers"),
        (PathOptions, {"method": "cubic"}, "method", 'must be "linear" or "spherical"'),
    ],
)
def test_a_bad_value_in_json_is_named_with_what_would_be_right(
    model: type[Options], values: dict[str, Any], place: str, message: str
) -> None:
    with pytest.raises(InvalidField) as caught:
        from_json(model, values)
    assert places(caught.value) == [place]
    assert caught.value.problems[0][1].startswith(message)


def test_every_problem_is_listed() -> None:
    with pytest.raises(InvalidField) as caught:
        from_json(SampleOptions, {"count": 0, "seed": -1, "x": 1})
    assert places(caught.value) == ["count", "seed", "x"]


def test_listed_problems_are_bounded() -> None:
    with pytest.raises(InvalidField) as caught:
        from_json(SampleOptions, {f"x{number}" * 100: 1 for number in range(1000)})
    assert len(str(caught.value)) < 3000


def test_text_is_read_as_numbers() -> None:
    assert from_strings(PathOptions, {"steps": "5", "method": "spherical"}).steps == 5
    assert from_strings(PathOptions, {"lambdas": ["0", "0.25", "1"]}).lambdas == [0, 0.25, 1]
    assert from_query(EncodeQuery, {"sample": "true", "seed": "7"}) == EncodeQuery(sample=True, seed=7)


@pytest.mark.parametrize(
    ("model", "query", "place"),
    [
        (ImageQuery, {"size": "15"}, "query.size"),
        (ImageQuery, {"size": "2049"}, "query.size"),
        (ImageQuery, {"size": "abc"}, "query.size"),
        (ImageQuery, {"size": ""}, "query.size"),
        (SampleOptions, {"temperature": "nan"}, "query.temperature"),
        (SampleOptions, {"temperature": "inf"}, "query.temperature"),
        (EncodeQuery, {"sample": "perhaps"}, "query.sample"),
    ],
)
def test_a_bad_value_in_a_query_is_named(model: type[Options], query: dict[str, str], place: str) -> None:
    with pytest.raises(InvalidField) as caught:
        from_query(model, query)
    assert places(caught.value) == [place]


def test_unknown_query_parameters_are_ignored() -> None:
    assert from_query(ImageQuery, {"utm_source": "x", "size": "16"}).size == 16


@pytest.mark.parametrize("waypoints", [1, 17])
def test_a_path_has_two_to_sixteen_waypoints(waypoints: int) -> None:
    with pytest.raises(InvalidField, match="must be 2 to 16"):
        check_path(PathOptions(), waypoints)


def test_lambdas_go_with_two_waypoints_and_without_steps() -> None:
    check_path(PathOptions(lambdas=[0.5]), 2)
    check_path(PathOptions(steps=4), 16)
    with pytest.raises(InvalidField, match="two waypoints only"):
        check_path(PathOptions(lambdas=[0.5]), 3)
    with pytest.raises(InvalidField, match="together with steps"):
        check_path(PathOptions(lambdas=[0.5], steps=4), 2)


def test_fields_that_a_body_does_not_have_are_refused() -> None:
    refuse_unknown(LatentsBody, dict.fromkeys(("latents", "model", "std", "seed", "images")))
    refuse_unknown(PathBody, dict.fromkeys(("latents", "steps", "lambdas", "method", "std")))
    with pytest.raises(InvalidField) as caught:
        refuse_unknown(LatentsBody, {"latents": [], "steps": 3})
    assert caught.value.problems == (("steps", "unknown field"),)
