"""/interpolate on a real (tiny) model: paths of latents and of images, and answers as bodies."""

import io
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.app.api.requests import AS_JSON, JPEG, LATENTS, PNG, check_problem, floats, form, post_image
from tests.images import array_of
from tests.tiny_model import HEIGHT, WIDTH


async def test_options_of_a_path_count_wherever_they_stand(client: httpx.AsyncClient) -> None:
    latents = {"latents": LATENTS[:2]}
    expected = (await client.post("/interpolate", json=latents | {"steps": 4, "method": "spherical"})).content
    pictures = {"steps": "4", "method": "spherical"}
    for query in ("steps=4&method=spherical", "steps=4", "method=spherical", ""):
        named = {name: value for name, value in pictures.items() if name not in query}
        body = latents | ({"steps": 4} if "steps" in named else {})
        body |= {"method": "spherical"} if "method" in named else {}
        assert (await client.post(f"/interpolate?{query}", json=body)).content == expected
        by_form = await client.post(f"/interpolate?{query}", files=form(JPEG, PNG), data=named)
        assert array_of(by_form.content).shape == (HEIGHT, 4 * WIDTH, 3)


@pytest.mark.parametrize(
    "query", ["lambdas=0,0.5,1", "lambdas=0&lambdas=0.5&lambdas=1", "lambdas=0,0.5&lambdas=1"]
)
async def test_lambdas_in_a_query_are_repeated_or_comma_separated(
    client: httpx.AsyncClient, query: str
) -> None:
    for body in ({}, {"lambdas": [0, 0.5, 1]}):
        answer = await client.post(
            f"/interpolate?{query}", json=body | {"latents": LATENTS[:2]}, headers=AS_JSON
        )
        assert answer.json()["lambdas"] == [0, 0.5, 1]


@pytest.mark.parametrize(
    ("query", "body", "place"),
    [
        ("steps=4", {"steps": 5}, "query.steps"),
        ("lambdas=0,1", {"lambdas": [0, 0.5]}, "query.lambdas"),
        ("method=linear", {"method": "spherical"}, "query.method"),
        ("steps=4", {"lambdas": [0.5]}, "lambdas"),
        ("lambdas=0.5", {"steps": 4}, "query.lambdas"),
        ("lambdas=nan", {}, "query.lambdas[0]"),
        ("steps=1", {}, "query.steps"),
    ],
)
async def test_options_that_do_not_go_together_are_named(
    client: httpx.AsyncClient, query: str, body: Any, place: str
) -> None:
    answer = await client.post(f"/interpolate?{query}", json=body | {"latents": LATENTS[:2]})
    assert check_problem(answer, 422)["errors"][0]["place"] == place


async def test_ends_of_the_path_equal_decode(client: httpx.AsyncClient) -> None:
    ends = [LATENTS[0], LATENTS[2]]
    for method in ("linear", "spherical"):
        body = {"latents": LATENTS, "steps": 7, "method": method}
        path = (await client.post("/interpolate", json=body, headers=AS_JSON)).json()
        assert list(path) == ["model", "lambdas", "latents", "images"]
        decoded = (await client.post("/decode", json={"latents": ends}, headers=AS_JSON)).json()
        assert [path["images"][0], path["images"][-1]] == decoded["images"]
        assert np.array_equal(floats([path["latents"][0], path["latents"][-1]]), floats(ends))
        np.testing.assert_allclose(path["lambdas"], np.linspace(0, 1, 7))
        assert len(path["images"]) == len(path["latents"]) == 7


async def test_eight_frames_in_one_row_by_default(client: httpx.AsyncClient) -> None:
    answer = await client.post("/interpolate", json={"latents": LATENTS[:2]})
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-model"] == "tiny-vae/1"
    assert array_of(answer.content).shape == (HEIGHT, 8 * WIDTH, 3)


async def test_lambdas_are_places_on_a_straight_line(client: httpx.AsyncClient) -> None:
    body = {"latents": LATENTS[:2], "lambdas": [1, 0, 0.25]}
    path = (await client.post("/interpolate", json=body, headers=AS_JSON)).json()
    begin, end = floats(LATENTS[:2])
    np.testing.assert_allclose(path["latents"], [end, begin, 0.75 * begin + 0.25 * end], rtol=1e-5)
    assert path["lambdas"] == [1, 0, 0.25]


async def test_a_path_between_images_goes_along_their_means(client: httpx.AsyncClient) -> None:
    encoded = (await client.post("/encode", files=form(JPEG, PNG))).json()
    by_latents = await client.post("/interpolate", json=encoded | {"steps": 5, "method": "spherical"})
    by_pictures = await client.post(
        "/interpolate", files=form(JPEG, PNG), data={"steps": "5", "method": "spherical"}
    )
    assert by_pictures.status_code == 200
    assert by_pictures.content == by_latents.content


@pytest.mark.parametrize("lambdas", [65 * ["0.5"], ",".join(65 * ["0.5"])])
async def test_more_lambdas_than_frames_in_a_form_are_refused(
    client: httpx.AsyncClient, lambdas: Any
) -> None:
    answer = await client.post("/interpolate", files=form(JPEG, PNG), data={"lambdas": lambdas})
    assert check_problem(answer, 422)["errors"][0]["place"] == "lambdas"
    fits = await client.post("/interpolate.json", files=form(JPEG, PNG), data={"lambdas": lambdas[:-4]})
    assert set(fits.json()["lambdas"]) == {0.5}


@pytest.mark.parametrize("steps", [3, 3.0, "3.0"])
async def test_an_integer_may_have_a_fraction_of_zero(client: httpx.AsyncClient, steps: Any) -> None:
    form_of_steps = {"files": form(JPEG, PNG), "data": {"steps": str(steps)}}
    in_json = {"json": {"latents": LATENTS[:2], "steps": float(steps), "seed": 2.0}}
    for request in (form_of_steps, in_json):
        path = (await client.post(f"/interpolate.json?steps={steps}", **request)).json()
        assert path["lambdas"] == [0, 0.5, 1]


@pytest.mark.parametrize("lambdas", ["0,0.5,1", ["0", "0.5", "1"], "0, 0.5 ,1"])
async def test_lambdas_in_a_form_are_repeated_or_comma_separated(
    client: httpx.AsyncClient, lambdas: Any
) -> None:
    answer = await client.post(
        "/interpolate", files=form(JPEG, PNG), data={"lambdas": lambdas}, headers=AS_JSON
    )
    assert answer.json()["lambdas"] == [0, 0.5, 1]


async def test_an_animation_has_every_frame_of_the_path(client: httpx.AsyncClient) -> None:
    answer = await client.post("/interpolate?format=gif&size=48", json={"latents": LATENTS, "steps": 9})
    assert answer.headers["content-type"] == "image/gif"
    with Image.open(io.BytesIO(answer.content)) as animation:
        assert animation.size == (48, 32)
        assert getattr(animation, "n_frames", 1) == 9
        assert animation.info["loop"] == 0
    by_accept = await client.post(
        "/interpolate?size=48", json={"latents": LATENTS, "steps": 9}, headers={"Accept": "image/gif"}
    )
    assert by_accept.content == answer.content
    check_problem(await client.post("/decode?format=gif", json={"latents": LATENTS}), 406)


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"latents": LATENTS[:1]}, "waypoints"),
        ({"latents": LATENTS * 6}, "waypoints"),
        ({"latents": LATENTS, "steps": 1}, "steps"),
        ({"latents": LATENTS, "steps": 65}, "steps"),
        ({"latents": LATENTS, "lambdas": [0.5]}, "lambdas"),
        ({"latents": LATENTS[:2], "lambdas": [0.5], "steps": 3}, "lambdas"),
        ({"latents": LATENTS[:2], "lambdas": [2]}, "lambdas[0]"),
        ({"latents": LATENTS[:2], "method": "cubic"}, "method"),
        ({"latents": LATENTS[:2], "frames": 3}, "frames"),
    ],
)
async def test_path_names_the_place(client: httpx.AsyncClient, body: Any, place: str) -> None:
    problem = check_problem(await client.post("/interpolate", json=body), 422)
    assert problem["errors"][0]["place"] == place


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"steps": "x"}, "steps"),
        ({"steps": ["3", "4"]}, "steps"),
        ({"lambdas": "0,,1"}, "lambdas[1]"),
        ({"model": "x"}, "model"),
    ],
)
async def test_path_form_names_the_place(client: httpx.AsyncClient, fields: Any, place: str) -> None:
    answer = await client.post("/interpolate", files=form(JPEG, PNG), data=fields)
    assert check_problem(answer, 422)["errors"][0]["place"] == place


async def test_one_raw_image_is_no_path(client: httpx.AsyncClient) -> None:
    check_problem(await post_image(client, "/interpolate", JPEG), 422)


async def json_answers(client: httpx.AsyncClient) -> dict[str, Any]:
    """Every JSON answer with latents, three of them each."""
    two = {"latents": LATENTS[:2]}
    return {
        "encode": (await client.post("/encode", files=form(JPEG, PNG, JPEG))).json(),
        "reconstruct": (await client.post("/reconstruct?format=json", files=form(JPEG, PNG, JPEG))).json(),
        "sample": (await client.post("/sample?format=json&count=3")).json(),
        "interpolate": (await client.post("/interpolate?format=json&steps=3", json=two)).json(),
    }


async def test_every_json_answer_is_a_body_as_it_stands(client: httpx.AsyncClient) -> None:
    for answer in (await json_answers(client)).values():
        latents = {"latents": answer["latents"]}
        for path in ("/decode", "/interpolate", "/interpolate?steps=4", "/interpolate?method=spherical"):
            by_answer = await client.post(path, json=answer)
            assert by_answer.status_code == 200, by_answer.text
            assert by_answer.content == (await client.post(path, json=latents)).content


async def test_an_answer_of_two_frames_gives_its_frames_again(client: httpx.AsyncClient) -> None:
    address = "/interpolate?format=json"
    two = (await client.post(address + "&steps=2", json={"latents": LATENTS[:2]})).json()
    assert (await client.post(address, json=two)).json() == two
    assert len((await client.post(address + "&steps=9", json=two)).json()["images"]) == 9
    assert len((await client.post(address, json=two | {"steps": 9})).json()["images"]) == 9


async def test_an_answer_of_more_frames_than_waypoints_is_told_so(client: httpx.AsyncClient) -> None:
    long = await client.post("/interpolate?format=json&steps=17", json={"latents": LATENTS})
    problem = check_problem(await client.post("/interpolate", json=long.json()), 422)
    assert problem["errors"] == [{"place": "waypoints", "message": "must be 2 to 16, not 17"}]
