"""What is counted, under which names, and that strangers cannot add names."""

from app.server.metrics import MOST_NOTES, Metrics, buckets
from app.timings import Stages

LE = ("0.001", "0.0025", "14.0", "+Inf")


def metrics() -> Metrics:
    return Metrics(frozenset(("/encode", "/decode")), queue_timeout=7.0, max_batch_rows=16)


def sample(of: Metrics, name: str, **labels: str) -> float | None:
    of.settle()
    return of.registry.get_sample_value(name, labels)


def test_requests_are_counted_by_endpoint_and_status() -> None:
    counted = metrics()
    for status in (200, 200, 422):
        counted.request("/encode", status, 0.25, Stages())
    assert sample(counted, "car_vae_requests_total", endpoint="/encode", status="200") == 2
    assert sample(counted, "car_vae_requests_total", endpoint="/encode", status="422") == 1
    assert sample(counted, "car_vae_request_seconds_count", endpoint="/encode") == 3
    assert sample(counted, "car_vae_request_seconds_sum", endpoint="/encode") == 0.75


def test_unknown_paths_share_one_name() -> None:
    counted = metrics()
    for number in range(100):
        counted.request(f"/wp-admin/{number}", 404, 0.001, Stages())
    assert sample(counted, "car_vae_requests_total", endpoint="other", status="404") == 100
    assert b"wp-admin" not in counted.render()


def test_values_on_the_edge_of_a_bucket_belong_to_it() -> None:
    counted = metrics()
    for seconds in (0.001, 0.0011, 0.0025, 1000.0):
        counted.request("/encode", 200, seconds, Stages())
    buckets_of = {
        le: sample(counted, "car_vae_request_seconds_bucket", endpoint="/encode", le=le) for le in LE
    }
    assert buckets_of == {"0.001": 1, "0.0025": 3, "14.0": 3, "+Inf": 4}


def test_what_is_noted_is_counted_before_it_grows_large() -> None:
    counted = metrics()
    for _ in range(MOST_NOTES):
        counted.request("/encode", 200, 0.25, Stages())
    counts = {"endpoint": "/encode", "status": "200"}
    assert counted.registry.get_sample_value("car_vae_requests_total", counts) == MOST_NOTES


def test_stages_are_observed() -> None:
    counted, stages = metrics(), Stages()
    stages.add("decode", 0.5)
    stages.add("queue", 0.25)
    counted.request("/encode", 200, 1, stages)
    assert sample(counted, "car_vae_stage_seconds_sum", stage="decode") == 0.5
    assert sample(counted, "car_vae_stage_seconds_sum", stage="queue") == 0.25


def test_batches() -> None:
    counted = metrics()
    counted.batch("encoder", 16, 0.5, [0.1, 0.2], 5)
    counted.batch("encoder", 2, 0.25, [0.1], 0)
    counted.skipped("decoder", 3)
    assert sample(counted, "car_vae_batch_rows_sum", half="encoder") == 18
    assert sample(counted, "car_vae_batch_rows_bucket", half="encoder", le="2.0") == 1
    assert sample(counted, "car_vae_inference_seconds_count", half="encoder") == 2
    assert sample(counted, "car_vae_queue_rows", half="encoder") == 0
    assert sample(counted, "car_vae_skipped_rows_total", half="decoder") == 3


def test_info() -> None:
    counted = metrics()
    counted.serving("car-vae/1", "CPUExecutionProvider")
    assert sample(counted, "car_vae_info", model="car-vae/1", provider="CPUExecutionProvider") == 1


def test_buckets_reach_beyond_the_queue_timeout() -> None:
    assert buckets((0.1, 1.0, 5.0), 2.0) == (0.1, 1.0, 2.0, 4.0)


def test_registries_are_apart() -> None:
    one, other = metrics(), metrics()
    one.skipped("encoder", 1)
    assert b'car_vae_skipped_rows_total{half="encoder"} 1.0' in one.render()
    assert b'half="encoder"' not in other.render()
