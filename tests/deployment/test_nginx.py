"""A real nginx with our configurations before two replicas: beneath a site's path, and Compose's balancer."""

import re
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.codes.wire import from_text, seal, tag_of, to_text
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
    conf = replaced(conf, r"/var/cache/cars", f"{folder}/pictures")
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
        page.wait_for_selector("#panel-sample img >> visible=true")
        page.wait_for_selector("html:not([data-busy])", state="attached")
        naturals = "all => all.filter(one => one.offsetWidth).map(one => one.naturalWidth)"
        widths = page.eval_on_selector_all("#panel-sample img", naturals)
        browser.close()
    assert widths
    assert all(width > 0 for width in widths)
    assert "/cars/sample.webp" in {path for _, path in answers}
    assert [answer for answer in answers if not answer[1].startswith(ROOT_PATH) or answer[0] >= 400] == []


def counted(replica: httpx.Client, endpoint: str) -> float:
    """Requests to a path that a replica has counted."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(replica.get("/metrics").text)
        for sample in family.samples
        if sample.name == "car_vae_requests_total" and sample.labels["endpoint"] == endpoint
    )


def samples_of(replica: httpx.Client) -> float:
    """Requests to /sample that a replica has counted."""
    return counted(replica, "/sample")


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


PROXIES = [pytest.param(site, ROOT_PATH, id="site"), pytest.param(balancer, "", id="balancer")]


@pytest.fixture(scope="module")
def code(replicas: Replicas) -> str:
    """A code that the replicas read."""
    answer = replicas[0].post("/compress?bytes=120", files={"image": file_of(photograph(60, 40))})
    text: str = answer.json()["items"][0]["codes"][0]
    return text


def asked(replicas: Replicas) -> float:
    """Requests for pictures of codes that reached the service; counted just after their answers."""
    return sum(counted(replica, "/c/{code}.webp") + counted(replica, "/c/{code}.png") for replica in replicas)


def until_asked(replicas: Replicas, times: float) -> None:
    while asked(replicas) < times:
        time.sleep(0.01)
    assert asked(replicas) == times


@pytest.mark.parametrize(("proxy", "prefix"), PROXIES)
def test_a_picture_of_a_code_is_asked_of_the_service_once(
    proxy: Callable[..., AbstractContextManager[httpx.Client]],
    prefix: str,
    replicas: Replicas,
    code: str,
    tmp_path: Path,
) -> None:
    with proxy(tmp_path, *replicas) as client:
        path = f"{prefix}/c/{code}.webp"
        direct = replicas[0].get(f"/c/{code}.webp")
        before = asked(replicas)
        first = client.get(path, headers={"X-Request-ID": "first"})
        assert first.headers["Server-Timing"] == "cache;desc=MISS"
        until_asked(replicas, before + 1)
        for headers in ({}, {"Accept": "image/avif"}, {"Cookie": "a=b", "User-Agent": "another"}):
            again = client.get(path, headers=headers)
            assert again.content == first.content == direct.content
            assert again.headers["Server-Timing"] == "cache;desc=HIT"
        for name in ("Content-Type", "Cache-Control", "ETag", "X-Model", "X-Content-Type-Options"):
            assert again.headers[name] == first.headers[name] == direct.headers[name]
        assert client.get(path, headers={"X-Request-ID": "mine"}).headers["X-Request-ID"] == "mine"
        assert client.get(path, headers={"X-Request-ID": "a b"}).headers["X-Request-ID"] not in (
            "a b",
            "first",
        )
        known = client.get(path, headers={"If-None-Match": first.headers["ETag"]})
        assert (known.status_code, known.content) == (304, b"")
        head = client.head(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["Content-Length"] == str(len(first.content))
        until_asked(replicas, before + 1)
        # Other options are other pictures.
        for number, query in enumerate(("?size=40", "?size=41", "?letterbox=true"), start=2):
            assert client.get(path + query).headers["Server-Timing"] == "cache;desc=MISS"
            until_asked(replicas, before + number)


@pytest.mark.parametrize(("proxy", "prefix"), PROXIES)
def test_no_error_is_kept_and_no_page(
    proxy: Callable[..., AbstractContextManager[httpx.Client]],
    prefix: str,
    replicas: Replicas,
    code: str,
    tmp_path: Path,
) -> None:
    foreign = to_text(seal(tag_of(9), from_text(code)[1:-1]))
    with proxy(tmp_path, *replicas) as client:
        for name, status in ((code[:-1], 400), (foreign, 409), (code, 422)):
            query = "?size=1" if status == 422 else ""
            for _ in range(2):
                before = asked(replicas)
                check_problem(client.get(f"{prefix}/c/{name}.png{query}"), status)
                until_asked(replicas, before + 1)
        for _ in range(2):
            page = client.get(f"{prefix}/c/{code}")
            assert page.status_code == 200
            assert "cache;" not in page.headers["Server-Timing"]
            assert f'content="http://{address_of(client)}{prefix}/c/{code}.jpg?' in page.text
            (script,) = re.findall(r'src="([^"]+/page\.js)"', page.text)
            assert client.get(urljoin(str(page.url), script)).status_code == 200


@pytest.mark.parametrize(("proxy", "prefix"), PROXIES)
def test_what_is_kept_outlives_all_replicas(
    proxy: Callable[..., AbstractContextManager[httpx.Client]],
    prefix: str,
    tiny_model: Path,
    code: str,
    tmp_path: Path,
) -> None:
    with ExitStack() as stopping:
        only = stopping.enter_context(serving(tiny_model, tmp_path / "only"))
        with proxy(tmp_path, only) as client:
            first = client.get(f"{prefix}/c/{code}.png")
            assert first.status_code == 200
            stopping.close()
            assert client.get(f"{prefix}/c/{code}.png").content == first.content
            check_problem(client.get(f"{prefix}/c/{code}.webp"), 503)


@pytest.mark.parametrize(("proxy", "prefix"), PROXIES)
def test_what_needs_a_key_is_not_kept(
    proxy: Callable[..., AbstractContextManager[httpx.Client]], prefix: str, tiny_model: Path, tmp_path: Path
) -> None:
    with serving(tiny_model, tmp_path / "keyed", api_keys="secret") as keyed:
        keyed.headers["X-API-Key"] = "secret"
        answer = keyed.post("/compress", files={"image": file_of(photograph(60, 40))})
        path = f"{prefix}/c/{answer.json()['items'][0]['codes'][0]}.png"
        with proxy(tmp_path, keyed) as client:
            for _ in range(2):
                given = client.get(path, headers={"Authorization": "Bearer secret"})
                assert given.headers["Server-Timing"] == "cache;desc=BYPASS"
                assert given.headers["Cache-Control"].startswith("private")
                check_problem(client.get(path), 401)


@pytest.mark.parametrize(("proxy", "prefix"), PROXIES)
def test_many_who_ask_for_a_new_picture_at_once_cost_one(
    proxy: Callable[..., AbstractContextManager[httpx.Client]],
    prefix: str,
    replicas: Replicas,
    code: str,
    tmp_path: Path,
) -> None:
    with proxy(tmp_path, *replicas) as client, ThreadPoolExecutor(16) as pool:
        before = asked(replicas)
        path = f"{prefix}/c/{code}.png?size=1024"
        answers = list(pool.map(lambda _: client.get(path), range(16)))
        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.content for answer in answers}) == 1
        until_asked(replicas, before + 1)


def test_site_and_service_agree() -> None:
    conf = (FOLDER / "site.conf").read_text()
    assert f"client_max_body_size {Settings.model_fields['max_body_bytes'].default};" in conf
    (kept,) = re.findall(r"keepalive_timeout (\d+)s;", conf)
    assert int(kept) < Settings.model_fields["keep_alive_timeout"].default
    (patience,) = re.findall(r"proxy_read_timeout (\d+)s;", conf)
    assert int(patience) > 2 * Settings.model_fields["queue_timeout"].default
