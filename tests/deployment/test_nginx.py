"""A real nginx with our configurations before two replicas: beneath a site's path, and Compose's balancer."""

import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.settings import Settings
from tests.deployment.conftest import Replicas, address_of
from tests.deployment.programs import free_port, program
from tests.e2e.conftest import serving
from tests.images import file_of, photograph

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FOLDER = Path(__file__).parents[2] / "docker" / "nginx"
ROOT_PATH = "/cars"
"""What site.conf serves it under."""
MAX_BODY_BYTES = 33554432
BURST = 40

pytestmark = pytest.mark.skipif(NGINX is None, reason="no nginx is installed (Debian: nginx-light)")


def replaced(text: str, pattern: str, replacement: str) -> str:
    """The text with what may only be said once said otherwise."""
    found, count = re.subn(pattern, lambda _: replacement, text)
    assert count == 1, pattern
    return found


@contextmanager
def nginx(configuration: str, port: int, folder: Path) -> Iterator[httpx.Client]:
    assert NGINX is not None
    (folder / "nginx.conf").write_text(configuration)
    command = [NGINX, "-p", str(folder), "-e", "stderr", "-c", str(folder / "nginx.conf")]
    options = ["-g", "daemon off; master_process off;"]
    with program([*command, *options], f"http://127.0.0.1:{port}", folder / "nginx.log") as client:
        yield client


def servers(*clients: httpx.Client) -> str:
    return " ".join(f"server {address_of(client)};" for client in clients)


@contextmanager
def site(folder: Path, *clients: httpx.Client, rate: str = "1000r/s") -> Iterator[httpx.Client]:
    """The nginx of a site with site.conf, on a port of ours, with a rate that makes a test certain."""
    port = free_port()
    conf = (FOLDER / "site.conf").read_text()
    conf = replaced(conf, r"server 127\.0\.0\.1:8000;", servers(*clients))
    conf = replaced(conf, r"listen 80;", f"listen 127.0.0.1:{port};")
    conf = replaced(conf, r"rate=10r/s", f"rate={rate}")
    own = " ".join(
        f"{of}_temp_path {folder}/{of};" for of in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    whole = f"pid {folder}/pid; events {{}} http {{ access_log off; {own}\n{conf}\n}}"
    with nginx(whole, port, folder) as client:
        yield client


@pytest.fixture(scope="module")
def beneath(replicas: Replicas, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with site(tmp_path_factory.mktemp("site"), *replicas) as client:
        yield client


@contextmanager
def balancer(folder: Path, *clients: httpx.Client) -> Iterator[httpx.Client]:
    """nginx as docker-compose.yml starts it, with addresses in place of the name that Docker resolves."""
    port = free_port()
    conf = (FOLDER / "nginx.conf").read_text().replace("/tmp/", f"{folder}/")
    conf = replaced(conf, r"server replica:8000 max_fails=1 fail_timeout=5s;", servers(*clients))
    conf = replaced(conf, r"listen 8000;", f"listen 127.0.0.1:{port};")
    (folder / "limits.conf").write_text(f"client_max_body_size {MAX_BODY_BYTES};\n")
    with nginx(conf, port, folder) as client:
        yield client


def check_problem(answer: httpx.Response, status: int) -> dict[str, object]:
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem: dict[str, object] = answer.json()
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
    assert problem["request_id"] == answer.headers["X-Request-ID"]
    return problem


@pytest.mark.parametrize(("asked", "led_to"), [("", "/cars/"), ("?seed=3", "/cars/?seed=3")])
def test_without_its_slash_the_path_leads_to_the_page(beneath: httpx.Client, asked: str, led_to: str) -> None:
    answer = beneath.get(ROOT_PATH + asked)
    assert (answer.status_code, answer.headers["Location"]) == (308, led_to)


def test_the_page_and_all_it_names_are_beneath_the_path(beneath: httpx.Client, replicas: Replicas) -> None:
    page = beneath.get(ROOT_PATH, follow_redirects=True)
    assert page.status_code == 200
    assert page.text == replicas[0].get("/").text
    named = re.findall(r'(?:src|href)="([^"#:]+)"', page.text)
    assert any(name.endswith(".js") for name in named)
    for name in named:
        address = urljoin(str(page.url), name)
        assert urlsplit(address).path.startswith("/cars/")
        assert beneath.get(address).status_code == 200, address


def test_what_the_documentation_names_is_beneath_the_path(beneath: httpx.Client, replicas: Replicas) -> None:
    docs = beneath.get("/cars/docs")
    assert docs.status_code == 200
    (named,) = re.findall(r'href="(openapi[^"]+)"', docs.text)
    answer = beneath.get(urljoin(str(docs.url), named))
    server = urljoin(str(answer.url), answer.json()["servers"][0]["url"])
    assert urlsplit(server).path == "/cars/"
    drawn = beneath.get(server + "sample", params={"seed": 3})
    assert (drawn.status_code, drawn.headers["Content-Type"]) == (200, "image/png")
    assert drawn.content == replicas[0].get("/sample", params={"seed": 3}).content


def test_images_and_latents_go_through(beneath: httpx.Client, replicas: Replicas) -> None:
    files = [("image", ("car.png", file_of(photograph(50, 80, seed=seed)))) for seed in (1, 2)]
    encoded = beneath.post("/cars/encode", files=files)
    assert encoded.status_code == 200
    expected = replicas[0].post("/encode", files=files).json()
    np.testing.assert_allclose(encoded.json()["latents"], expected["latents"], rtol=1e-4)
    decoded = beneath.post("/cars/decode", json=encoded.json())
    assert decoded.content == replicas[0].post("/decode", json=encoded.json()).content
    check_problem(beneath.post("/cars/decode", json={"latents": [[1.0]]}), 422)
    check_problem(beneath.get("/cars/nothing"), 404)


def test_a_body_too_large_is_a_problem(beneath: httpx.Client) -> None:
    body = bytes(MAX_BODY_BYTES + 1)
    answer = beneath.post("/cars/encode", content=body, headers={"Content-Type": "image/png"})
    assert check_problem(answer, 413)["type"] == "urn:car-vae:problem:body-too-large"


def test_metrics_are_not_for_the_world(beneath: httpx.Client) -> None:
    assert beneath.get("/cars/metrics").status_code == 404
    assert beneath.get("/cars/health/ready").status_code == 200


def test_each_client_has_a_rate_of_its_own(replicas: Replicas, tmp_path: Path) -> None:
    with site(tmp_path, *replicas, rate="1r/m") as client:
        statuses = [client.get("/cars/model").status_code for _ in range(BURST + 1)]
        assert statuses == [200] * (BURST + 1)
        refused = client.post("/cars/encode", files={"image": file_of(photograph())})
        check_problem(refused, 429)
        assert refused.headers["Retry-After"] == "1"
        (script,) = re.findall(r'src="(static/[^"]+\.js)"', replicas[0].get("/").text)[:1]
        assert client.get(f"/cars/{script}").status_code == 200  # what the page is made of does not count
        elsewhere = httpx.HTTPTransport(local_address="127.0.0.2")
        with httpx.Client(base_url=client.base_url, transport=elsewhere) as other:
            assert other.get("/cars/model").status_code == 200


@pytest.mark.parametrize("proxy", [site, balancer])
def test_without_a_replica_the_problem_says_so(
    proxy: Callable[..., AbstractContextManager[httpx.Client]], tmp_path: Path
) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{free_port()}") as gone, proxy(tmp_path, gone) as client:
        answer = client.get("/cars/sample")
    assert check_problem(answer, 503)["type"] == "urn:car-vae:problem:not-ready"
    assert answer.headers["Retry-After"] == "5"


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_the_page_works_beneath_the_path_in_a_browser(beneath: httpx.Client) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
    with playwright.sync_playwright() as starter:
        browser = starter.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        answers: list[tuple[int, str]] = []
        page.on("response", lambda answer: answers.append((answer.status, urlsplit(answer.url).path)))
        page.goto(f"{beneath.base_url}{ROOT_PATH}#sample")
        page.wait_for_selector("#panel-sample img")
        page.wait_for_selector("html:not([data-busy])", state="attached")
        widths = page.eval_on_selector_all("#panel-sample img", "all => all.map(one => one.naturalWidth)")
        browser.close()
    assert widths
    assert all(width > 0 for width in widths)
    assert "/cars/sample.webp" in {path for _, path in answers}
    assert [answer for answer in answers if not answer[1].startswith(ROOT_PATH) or answer[0] >= 400] == []


def samples_of(replica: httpx.Client) -> float:
    """Requests to /sample that a replica has counted."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(replica.get("/metrics").text)
        for sample in family.samples
        if sample.name == "car_vae_requests_total" and sample.labels["endpoint"] == "/sample"
    )


def test_the_balancer_shares_the_work_and_outlives_a_replica(
    replicas: Replicas, tiny_model: Path, tmp_path: Path
) -> None:
    staying, _ = replicas
    alone = staying.get("/sample?seed=3").content
    with ExitStack() as stopping:
        leaving = stopping.enter_context(serving(tiny_model, tmp_path / "leaving"))
        with balancer(tmp_path, staying, leaving) as client:
            before = samples_of(staying)
            for _ in range(10):
                assert client.get("/sample?seed=3").content == alone
            while (samples_of(staying) - before) + samples_of(leaving) < 10:  # counted just after the answer
                time.sleep(0.01)
            assert samples_of(leaving) == 5
            assert client.get("/metrics").status_code == 404
            body = bytes(MAX_BODY_BYTES + 1)
            check_problem(client.post("/encode", content=body, headers={"Content-Type": "image/png"}), 413)
            stopping.close()
            for _ in range(10):
                assert client.get("/sample?seed=3").content == alone


def test_site_and_service_agree() -> None:
    conf = (FOLDER / "site.conf").read_text()
    assert f"client_max_body_size {Settings.model_fields['max_body_bytes'].default};" in conf
    (kept,) = re.findall(r"keepalive_timeout (\d+)s;", conf)
    assert int(kept) < Settings.model_fields["keep_alive_timeout"].default
    (patience,) = re.findall(r"proxy_read_timeout (\d+)s;", conf)
    assert int(patience) > 2 * Settings.model_fields["queue_timeout"].default
