"""What the page loads, and from where: nothing twice, nothing from elsewhere, no code but its own."""

from urllib.parse import urlsplit

from playwright.sync_api import expect

from tests.e2e.page.visits import Open, Visit, car_file


def test_a_second_visit_loads_nothing_twice(visit: Visit) -> None:
    visit.open("sample?seed=7")
    transferred = """() => performance.getEntriesByType("resource")
        .filter(({ name }) => name.includes("/static/")).map(({ transferSize }) => transferSize)"""
    visit.open("sample?seed=7")
    sizes = visit.page.evaluate(transferred)
    assert len(sizes) > 15
    assert set(sizes) == {0}


def test_the_policy_holds_against_injected_code(visiting: Open) -> None:
    with visiting(forgiven="Content Security Policy|Trusted(HTML|Script)") as visit:
        visit.open("sample?seed=7")
        ran = visit.page.evaluate(
            """async () => {
                const script = document.createElement("script");
                try { script.text = "window.injected = true"; document.body.append(script); } catch {}
                const image = "<img src=x onerror='injected = 1'>";
                try { document.body.insertAdjacentHTML("beforeend", image); } catch {}
                const sent = await fetch("http://127.0.0.1:9/").then(() => true, () => false);
                return [window.injected ?? false, sent];
            }"""
        )
        assert ran == [False, False]
        visit.requests.clear()


def test_the_api_is_described_without_a_network(visit: Visit) -> None:
    """`watched` sees to it that nothing came from elsewhere."""
    visit.page.goto(f"{visit.root}/docs")
    expect(visit.page.get_by_role("heading", name="car-vae")).to_be_visible()
    visit.page.locator(".opblock").first.click()
    expect(visit.page.get_by_role("button", name="Try it out")).to_be_visible()


def test_the_first_look_asks_for_pictures_once(visiting: Open) -> None:
    """One strip of all frames, asked for ahead; no latents, and no second request for it."""
    with visiting() as visit:
        visit.open("interpolate")
        api = [urlsplit(request.url) for request in visit.requests if "/static/" not in request.url]
        assert sorted(address.path for address in api) == ["/", "/interpolate.webp", "/model"]


def test_latents_come_when_a_car_is_opened(visit: Visit) -> None:
    visit.open("sample?seed=7")
    assert visit.asked("/sample.json") == 0
    visit.page.get_by_role("button", name="Car 3 of seed 7", exact=True).click()
    visit.page.locator("dialog#car").get_by_role("button", name="Edit it").click()
    visit.panel("edit")
    visit.settle()
    assert visit.asked("/sample.json") == 1
    expect(visit.panel("edit").get_by_role("alert")).to_have_count(0)


def test_a_large_photograph_is_sent_small(visiting: Open) -> None:
    with visiting() as visit:
        visit.page.add_init_script(
            """const real = fetch;
            window.fetch = async (address, options) => {
                if (options.body instanceof FormData) {
                    const { width, height } = await createImageBitmap(options.body.get("image"));
                    window.sent = [width, height];
                }
                return real(address, options);
            }"""
        )
        visit.open("interpolate?cars=3-0,8-0")
        visit.part("interpolate", "photo").set_input_files(car_file(1, 3000, 2000))
        expect(visit.part("interpolate", "private")).to_be_visible()
        assert visit.page.evaluate("() => window.sent") == [192, 128]


def test_a_model_without_codes_has_no_panel_for_them(visiting: Open) -> None:
    with visiting(forgiven="preload") as visit:
        visit.page.goto(visit.root)
        visit.panel("interpolate")
        expect(visit.page.get_by_role("link", name="Compress")).to_have_count(0)
