"""The app in Streamlit, driven by its own test client against the service."""

import httpx
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from model_training.data.synthetic import draw_cars
from tests.docs.conftest import EXAMPLES, Stage
from tests.images import file_of

PATIENCE = 60


@pytest.fixture
def app(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    monkeypatch.setenv("CAR_VAE_URL", stage.service)
    return AppTest.from_file(str(EXAMPLES / "streamlit_app.py"), default_timeout=PATIENCE).run()


def address_of(image: bytes) -> str:
    """What Streamlit calls an image, which follows from its content."""
    shown = AppTest.from_function(_show, args=(image,), default_timeout=PATIENCE).run()
    address: str = shown.image[0].value[0]
    return address


def _show(image: bytes) -> None:
    import streamlit

    streamlit.image(image, output_format="PNG")


def shown(app: AppTest) -> str:
    assert [error.value for error in [*app.error, *app.exception]] == []
    (image,) = app.image
    address: str = image.value[0]
    return address


def latent(client: httpx.Client, seed: int) -> list[float]:
    drawn: list[list[float]] = client.post("/sample?format=json", json={"seed": seed}).json()["latents"]
    return drawn[0]


def test_it_shows_the_car_on_the_way(app: AppTest, client: httpx.Client) -> None:
    def right(start: int, end: int, **options: object) -> str:
        body = {"latents": [latent(client, start), latent(client, end)], **options}
        return address_of(client.post("/interpolate?size=768", json=body).raise_for_status().content)

    assert shown(app) == right(3, 8, lambdas=[0.5])
    app.slider[0].set_value(0.25).run()
    assert shown(app) == right(3, 8, lambdas=[0.25])
    app.radio[0].set_value("spherical").run()
    assert shown(app) == right(3, 8, lambdas=[0.25], method="spherical")
    app.number_input(key="To seed").set_value(5).run()
    assert shown(app) == right(3, 5, lambdas=[0.25], method="spherical")


def test_a_photograph_of_ones_own(app: AppTest, client: httpx.Client) -> None:
    photograph = file_of(Image.fromarray(draw_cars(1, 96, 64, seed=7)[0]))
    app.file_uploader(key="From photograph").set_value(("car.png", photograph, "image/png")).run()
    encoded = client.post("/encode", files={"image": photograph}).json()["latents"][0]
    body = {"latents": [encoded, latent(client, 8)], "lambdas": [0.5]}
    assert shown(app) == address_of(client.post("/interpolate?size=768", json=body).content)


def test_what_the_service_says_is_shown(
    app: AppTest, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = client.post("/encode", files={"image": b"no picture"}).json()
    app.file_uploader(key="From photograph").set_value(("car.png", b"no picture", "image/png")).run()
    assert [error.value for error in app.error] == [answer["detail"]]
    assert not app.image
    monkeypatch.setenv("CAR_VAE_URL", "http://127.0.0.1:1")
    app.file_uploader(key="From photograph").set_value(None).run()
    app.number_input(key="From seed").set_value(12345).run()
    assert [error.value for error in app.error] == [
        "There is no service at http://127.0.0.1:1; CAR_VAE_URL says where it is."
    ]
