"""App in Streamlit: one car turning into another, both drawn by seed or photographs of one's own.

streamlit run streamlit_app.py
"""

import os
from typing import Any

import httpx
import streamlit as st

SERVICE = os.environ.get("CAR_VAE_URL", "http://localhost:8000")


class Refused(Exception):
    """What the service says is wrong with a request."""


def ask(method: str, path: str, **request: Any) -> httpx.Response:
    """The answer of the service.

    Raises:
        Refused: it is an error; the message is what the service says would be right.
    """
    answer = httpx.request(method, SERVICE + path, timeout=30, **request)
    if answer.is_error:
        raise Refused(answer.json()["detail"])
    return answer


@st.cache_data(max_entries=100)
def drawn(seed: int) -> list[float]:
    """The latent of a car that the model makes up."""
    latents: list[list[float]] = ask("POST", "/sample?format=json", json={"seed": seed}).json()["latents"]
    return latents[0]


@st.cache_data(max_entries=100)
def encoded(photograph: bytes) -> list[float]:
    """The latent of a photograph."""
    latents: list[list[float]] = ask("POST", "/encode", files={"image": photograph}).json()["latents"]
    return latents[0]


@st.cache_data(max_entries=1000)
def between(start: list[float], end: list[float], position: float, method: str) -> bytes:
    """A PNG of the car at a position from 0 to 1 on the way."""
    body = {"latents": [start, end], "lambdas": [position], "method": method}
    return ask("POST", "/interpolate?size=768", json=body).content


def waypoint(name: str, seed: int) -> list[float]:
    """The latent of a car that is chosen in a column of its own."""
    photograph = st.file_uploader(f"{name}: a photograph", key=f"{name} photograph")
    seed = st.number_input(f"{name}: or a seed", min_value=0, value=seed, key=f"{name} seed")
    return drawn(seed) if photograph is None else encoded(photograph.getvalue())


st.title("From one car to another")
try:
    left, right = st.columns(2)
    with left:
        start = waypoint("From", 3)
    with right:
        end = waypoint("To", 8)
    method = st.radio("Path", ("linear", "spherical"), horizontal=True)
    position = st.slider("Position", 0.0, 1.0, 0.5)
    st.image(between(start, end, position, method), output_format="PNG")
except Refused as refused:
    st.error(str(refused))
except httpx.TransportError:
    st.error(f"There is no service at {SERVICE}; CAR_VAE_URL says where it is.")
