"""What is counted, under which names, and that strangers cannot add names."""

from app.server.metrics import Metrics, buckets
from app.timings import Timings

LE = ("0.001", "0.0025", "14.0", "+Inf")


def metrics() -> Metrics:
    return Metrics(frozenset(("/encode", "/decode")), queue_timeout=7.0, max_batch_rows=16)


def sample(of: Metrics, name: str, **labels: str) -> float | None:
    return of.registry.get_sample_value(name, labels)


def test_requests_are_counted_by_endpoint_and_status() -> None:
    counted = metrics()
    for status in (200, 200, 422):
        counted.request("/encode", status, 0.25, Timings())
    assert sample(counted, "car_vae_requests_total", endpoint="/encode", status="200") == 2
    assert sample(counted, "car_vae_requests_total", endpoint="/encode", status="422") == 1
    assert sample(counted, "car_vae_request_seconds_count", endpoint="/encode") == 3
    assert sample(counted, "car_vae_request_seconds_sum", endpoint="/encode") == 0.75


def test_unknown_paths_share_one_name() -> None:
    counted = metrics()
    for number in range(100):
        counted.request(f"/wp-admin/{number}", 404, 0.001, Timings())
    assert sample(counted, "car_vae_requests_total", endpoint="other", status="404") == 100
    assert b"wp-admin" not in counted.render()


def test_values_on_the_edge_of_a_bucket_belong_to_it() -> None:
    counted = metrics()
    for seconds in (0.001, 0.0011, 0.0025, 1000.0):
        counted.request("/encode", 200, seconds, Timings())
    buckets_of = {
        le: sample(counted, "car_vae_request_seconds_bucket", endpoint="/encode", le=le) for le in LE
    }
    assert buckets_of == {"0.001": 1, "0.0025": 3, "14.0": 3, "+Inf": 4}


def test_what_is_observed_is_counted_at_once() -> None:
    counted = metrics()
    counted.request("/encode", 200, 0.25, Timings())
    assert b'car_vae_requests_total{endpoint="/encode",status="200"} 1.0' in counted.render()


def test_seconds_are_counted_by_stage() -> None:
    counted, timings = metrics(), Timings()
    timings.add("decode", 0.5)
    timings.add("queue", 0.25)
    counted.request("/encode", 200, 1, timings)
    assert sample(counted, "car_vae_stage_seconds_sum", stage="decode") == 0.5
    assert sample(counted, "car_vae_stage_seconds_sum", stage="queue") == 0.25


def test_rows_and_runs_are_counted_by_graph() -> None:
    counted = metrics()
    counted.batch("encoder", 16, 0.5, 5)
    counted.batch("encoder", 2, 0.25, 0)
    counted.skipped("decoder", 3)
    assert sample(counted, "car_vae_batch_rows_sum", graph="encoder") == 18
    assert sample(counted, "car_vae_batch_rows_bucket", graph="encoder", le="2.0") == 1
    assert sample(counted, "car_vae_inference_seconds_count", graph="encoder") == 2
    assert sample(counted, "car_vae_queue_rows", graph="encoder") == 0
    assert sample(counted, "car_vae_skipped_rows_total", graph="decoder") == 3


def test_codes_are_counted_by_what_was_done_and_by_model() -> None:
    counted = metrics()
    counted.codes("written", "car-vae/3", [94, 93, 255])
    counted.codes("read", "car-vae/2", [16])
    assert sample(counted, "car_vae_code_bytes_sum", way="written", model="car-vae/3") == 442
    assert sample(counted, "car_vae_code_bytes_bucket", way="written", model="car-vae/3", le="94.0") == 2
    assert sample(counted, "car_vae_code_bytes_count", way="read", model="car-vae/2") == 1


def test_what_is_served_is_told() -> None:
    counted = metrics()
    counted.serving("car-vae/1", "CPUExecutionProvider", {"encoder": "fp32", "decoder": "int8"})
    assert sample(counted, "car_vae_info", model="car-vae/1", provider="CPUExecutionProvider") == 1
    assert sample(counted, "car_vae_precision", graph="encoder", precision="fp32") == 1
    assert sample(counted, "car_vae_precision", graph="decoder", precision="int8") == 1


def test_buckets_reach_beyond_the_queue_timeout() -> None:
    assert buckets((0.1, 1.0, 5.0), 2.0) == (0.1, 1.0, 2.0, 4.0)


def test_apps_share_no_figures() -> None:
    one, other = metrics(), metrics()
    one.skipped("encoder", 1)
    assert b'car_vae_skipped_rows_total{graph="encoder"} 1.0' in one.render()
    assert b'graph="encoder"' not in other.render()
