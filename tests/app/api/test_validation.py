"""What is accepted from clients, and how the place of what is not is named."""

from typing import Any

import numpy as np
import orjson
import pytest
from starlette.datastructures import QueryParams

from app.api.schemas import (
    EncodeQuery,
    ImageQuery,
    LatentsBody,
    Options,
    PathBody,
    PathOptions,
    PathQuery,
    SampleOptions,
    SampleQuery,
)
from app.api.validation import (
    check_path,
    from_form,
    from_json,
    from_query,
    known_model,
    listed_codes,
    merged,
    path_options,
    read_latents,
    refuse_unknown,
)
from app.errors import InvalidField, TooManyItems, WrongModel


def places(error: InvalidField) -> list[str]:
    return [place for place, _ in error.problems]


def read(latents: Any, **fields: Any) -> Any:
    body = {"latents": latents, **fields}
    known_model(body, "car-vae/1")
    return read_latents(body, dim=3, max_items=4)


def test_latents_become_an_array() -> None:
    latents = read([[1, 2.5, -3], [0, 1e-3, 2.00000001]], model="car-vae/1")
    assert latents.dtype == np.float32
    assert latents.tolist() == [[1, 2.5, -3], [0, float(np.float32(1e-3)), 2]]


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
        ([[1, 2, 3], [1, float("inf"), 3]], "latents[1][1]"),
        ([[1, 2, 1000000.01]], "latents[0][2]"),
        ([[1, -(2**63), 2**64]], "latents[0][1]"),
    ],
)
def test_the_first_bad_place_of_latents_is_named(latents: Any, place: str) -> None:
    with pytest.raises(InvalidField) as caught:
        read(latents)
    assert places(caught.value) == [place]


def test_latents_are_within_a_million() -> None:
    assert read([[1e6, -1e6, 10**6]]).tolist() == [[1e6, -1e6, 1e6]]
    with pytest.raises(InvalidField, match="must be a number from -1000000 to 1000000"):
        read([[0, 0, -1000001]])


@pytest.mark.parametrize("latents", [[0.5], [1, 2, 3], [0.1] * 256])
def test_a_latent_that_stands_alone_is_told_to_stand_in_a_list(latents: list[float]) -> None:
    with pytest.raises(InvalidField, match="a latent stands in a list of latents"):
        read(latents)


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
        (SampleOptions, {"count": 65.0}, "count", "must be an integer from 1 to 64"),
        (SampleOptions, {"seed": 1e300}, "seed", "must be an integer from 0"),
        (PathOptions, {"steps": 61.5}, "steps", "must be an integer from 2 to 64"),
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


def test_a_number_without_a_fraction_is_an_integer() -> None:
    options = from_json(SampleOptions, {"count": 61.0, "seed": 2.0**53 - 1})
    assert (type(options.count), options.count) == (int, 61)
    assert (type(options.seed), options.seed) == (int, 2**53 - 1)
    assert from_query(PathQuery, QueryParams("steps=61.0&size=64.0")).steps == 61
    with pytest.raises(InvalidField):
        from_query(PathQuery, QueryParams("steps=61.5"))


def test_every_problem_is_listed() -> None:
    with pytest.raises(InvalidField) as caught:
        from_json(SampleOptions, {"count": 0, "seed": -1, "x": 1})
    assert places(caught.value) == ["count", "seed", "x"]


def test_listed_problems_are_bounded() -> None:
    with pytest.raises(InvalidField) as caught:
        from_json(SampleOptions, {f"x{number}" * 100: 1 for number in range(1000)})
    assert len(str(caught.value)) < 3000


def test_text_is_read_as_numbers() -> None:
    assert from_form(PathOptions, {"steps": ["5"], "method": ["spherical"]}, "image").steps == 5
    query = QueryParams("sample=true&seed=7")
    assert from_query(EncodeQuery, query) == EncodeQuery(sample=True, seed=7)


@pytest.mark.parametrize("texts", [["0", "0.25", "1"], ["0,0.25,1"], ["0", "0.25,1"], ["0, 0.25 ,1"]])
def test_lambdas_are_repeated_or_comma_separated(texts: list[str]) -> None:
    assert from_form(PathOptions, {"lambdas": texts}, "image").lambdas == [0, 0.25, 1]
    query = QueryParams([("lambdas", text) for text in texts])
    assert from_query(PathQuery, query).lambdas == [0, 0.25, 1]


@pytest.mark.parametrize(
    ("model", "query", "place"),
    [
        (ImageQuery, {"size": "15"}, "query.size"),
        (ImageQuery, {"size": "2049"}, "query.size"),
        (ImageQuery, {"size": "abc"}, "query.size"),
        (ImageQuery, {"size": ""}, "query.size"),
        (SampleOptions, {"temperature": "nan"}, "query.temperature"),
        (SampleOptions, {"temperature": "inf"}, "query.temperature"),
        (PathQuery, {"lambdas": "nan"}, "query.lambdas[0]"),
        (PathQuery, {"lambdas": "0.5,1e999"}, "query.lambdas[1]"),
        (PathQuery, {"lambdas": ""}, "query.lambdas[0]"),
        (EncodeQuery, {"sample": "perhaps"}, "query.sample"),
    ],
)
def test_a_bad_value_in_a_query_is_named(model: type[Options], query: dict[str, str], place: str) -> None:
    with pytest.raises(InvalidField) as caught:
        from_query(model, QueryParams(query))
    assert places(caught.value) == [place]


@pytest.mark.parametrize(
    ("model", "query", "place", "message"),
    [
        (ImageQuery, "utm_source=x&size=16", "query.utm_source", "there are `size`, `images`, `format`"),
        (ImageQuery, "szie=16", "query.szie", "did you mean `size`?"),
        (SampleQuery, "sed=3", "query.sed", "did you mean `seed`?"),
        (PathQuery, "n=3", "query.n", "did you mean `steps`?"),
        (EncodeQuery, "=1", "query.", "unknown parameter"),
        (EncodeQuery, "Seed=1", "query.Seed", "did you mean `seed`?"),
        (SampleQuery, "seed=1&seed=2", "query.seed", "must be given once"),
        (SampleQuery, "seed=1&seed=1", "query.seed", "must be given once"),
        (PathQuery, "steps=3&steps=4&lambdas=0&lambdas=1", "query.steps", "must be given once"),
    ],
)
def test_parameters_are_known_and_given_once(
    model: type[Options], query: str, place: str, message: str
) -> None:
    with pytest.raises(InvalidField) as caught:
        from_query(model, QueryParams(query))
    assert places(caught.value) == [place]
    assert message in caught.value.problems[0][1]


def test_unknown_parameters_are_named_beside_bad_ones() -> None:
    with pytest.raises(InvalidField) as caught:
        from_query(SampleQuery, QueryParams("count=0&sed=3"))
    assert sorted(places(caught.value)) == ["query.count", "query.sed"]


def test_fields_of_a_form_are_told_of_the_images_beside_them() -> None:
    with pytest.raises(InvalidField, match="did you mean `image`"):
        from_form(PathOptions, {"files": ["x"]}, "image")
    with pytest.raises(InvalidField) as caught:
        from_form(PathOptions, {"steps": ["3", "4"]}, "image")
    assert caught.value.problems == (("steps", "must be given once"),)


def test_options_of_query_and_body_are_taken_together() -> None:
    body = from_json(SampleOptions, {"count": 3, "seed": None})
    query = from_query(SampleQuery, QueryParams("seed=7&count=3&size=48"))
    assert merged(SampleOptions, body, query) == SampleOptions(count=3, seed=7)
    path = from_query(PathQuery, QueryParams("lambdas=0&lambdas=0.5"))
    assert merged(PathOptions, PathOptions(lambdas=[0, 0.5]), path).lambdas == [0, 0.5]
    assert merged(PathOptions, PathOptions(method="spherical"), PathQuery(steps=3)).method == "spherical"


def test_an_option_that_says_something_else_in_the_body_is_named() -> None:
    body = from_json(SampleOptions, {"count": 1, "seed": 8})
    query = from_query(SampleQuery, QueryParams("seed=7&count=2&temperature=1"))
    with pytest.raises(InvalidField) as caught:
        merged(SampleOptions, body, query)
    assert places(caught.value) == ["query.count", "query.seed"]


ANSWERED: dict[str, Any] = {"model": "car-vae/1", "images": []}


@pytest.mark.parametrize(
    ("body", "options"),
    [
        ({"latents": [[0]] * 3, "lambdas": [0, 0.5, 1], **ANSWERED}, PathOptions()),
        ({"latents": [[0]] * 3, "lambdas": [0, 0.5, 1], "steps": 5, **ANSWERED}, PathOptions(steps=5)),
        ({"latents": [[0]] * 2, "lambdas": [0, 1], "steps": 5, **ANSWERED}, PathOptions(steps=5)),
        ({"latents": [[0]] * 2, "lambdas": [0, 1], **ANSWERED}, PathOptions(lambdas=[0, 1])),
        ({"latents": [[0]] * 3, "lambdas": [0.5], **ANSWERED}, PathOptions(lambdas=[0.5])),
        ({"latents": [[0]] * 3, "lambdas": [0, 0.5, 1]}, PathOptions(lambdas=[0, 0.5, 1])),
    ],
)
def test_lambdas_of_an_answer_are_no_option(body: dict[str, Any], options: PathOptions) -> None:
    assert path_options(body, len(body["latents"]), PathQuery()) == options


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
    answered = ("latents", "model", "std", "seed", "images", "psnr", "ssim", "lambdas")
    refuse_unknown(LatentsBody, answered)
    refuse_unknown(PathBody, (*answered, "steps", "method"))
    with pytest.raises(InvalidField) as caught:
        refuse_unknown(LatentsBody, ("latents", "steps", "z"))
    assert caught.value.problems == (
        ("steps", "unknown field; there are `latents`, `codes`, `model`"),
        ("z", "unknown field; did you mean `latents`?"),
    )


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ({"latents": [[0]]}, None),
        ({}, None),
        ({"codes": ["a", "b"]}, [("codes[0]", "a"), ("codes[1]", "b")]),
        (
            {"items": [{"codes": ["a"], "bytes": [9]}, {"codes": ["b", "c"]}]},
            [("items[0].codes[0]", "a"), ("items[1].codes[0]", "b"), ("items[1].codes[1]", "c")],
        ),
    ],
)
def test_codes_stand_in_place_of_latents(body: dict[str, Any], found: Any) -> None:
    assert listed_codes(body, 4) == found


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"codes": ["a"], "latents": [[0]]}, "codes"),
        ({"codes": ["a"], "items": []}, "items"),
        ({"codes": []}, "codes"),
        ({"codes": "a"}, "codes"),
        ({"codes": ["a", 3]}, "codes[1]"),
        ({"items": [{"bytes": [3]}]}, "items[0].codes"),
        ({"items": []}, "items"),
        ({"items": ["a"]}, "items"),
    ],
)
def test_what_is_no_list_of_codes_is_named(body: dict[str, Any], place: str) -> None:
    with pytest.raises(InvalidField) as caught:
        listed_codes(body, 4)
    assert places(caught.value) == [place]


def test_more_codes_than_allowed_are_too_many() -> None:
    with pytest.raises(TooManyItems, match="at most 4"):
        listed_codes({"codes": ["a"] * 5}, 4)
