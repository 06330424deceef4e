import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from model_training.export import integer_products
from model_training.export.integer_products import use_integer_products

INNER, OUTER = 24, 40


def graph(weight: np.ndarray) -> onnx.ModelProto:
    """rows (N, OUTER) -> rows @ weight, there (N, INNER), and back by its transpose (N, OUTER)."""
    nodes = [
        helper.make_node("MatMul", ["rows", "weight"], ["there"], "there_product"),
        helper.make_node("Transpose", ["weight"], ["turned"], "turn", perm=[1, 0]),
        helper.make_node("MatMul", ["there", "turned"], ["back"], "back_product"),
    ]
    rows, there, back = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", size])
        for name, size in (("rows", OUTER), ("there", INNER), ("back", OUTER))
    )
    made = helper.make_graph(
        nodes, "products", [rows], [there, back], [numpy_helper.from_array(weight, "weight")]
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def run(model: onnx.ModelProto, rows: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, {"rows": rows}))


@pytest.fixture
def weight() -> np.ndarray:
    """Columns of very different sizes, as principal components have them."""
    random = np.random.default_rng(0)
    return (random.standard_normal((OUTER, INNER)) * np.logspace(-2, 1, INNER)).astype(np.float32)


@pytest.fixture(autouse=True)
def every_matrix_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integer_products, "LEAST_WEIGHTS", 1)


def test_products_both_ways_are_nearly_what_they_were(weight: np.ndarray) -> None:
    plain = graph(weight)
    integer = graph(weight)
    use_integer_products(integer)
    onnx.checker.check_model(integer, full_check=True)
    rows = np.random.default_rng(1).standard_normal((64, OUTER)).astype(np.float32)
    for found, expected in zip(run(integer, rows), run(plain, rows), strict=True):
        error = np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1)
        assert 0 < error.mean() < 0.03


def test_a_row_does_not_depend_on_those_beside_it(weight: np.ndarray) -> None:
    integer = graph(weight)
    use_integer_products(integer)
    rows = np.random.default_rng(1).standard_normal((8, OUTER)).astype(np.float32)
    rows[3] *= 1e4
    for together, alone in zip(run(integer, rows), run(integer, rows[5:6]), strict=True):
        np.testing.assert_array_equal(together[5:6], alone)


def test_rows_of_zeros_give_zeros(weight: np.ndarray) -> None:
    integer = graph(weight)
    use_integer_products(integer)
    for found in run(integer, np.zeros((2, OUTER), np.float32)):
        np.testing.assert_array_equal(found, np.zeros_like(found))


def test_a_matrix_is_kept_once_as_integers_and_no_more_as_floats(weight: np.ndarray) -> None:
    integer = graph(weight)
    use_integer_products(integer)
    kinds = {tensor.name: tensor.data_type for tensor in integer.graph.initializer if len(tensor.dims) == 2}
    assert kinds["weight.integers"] == TensorProto.INT8
    assert [kind for kind in kinds.values() if kind == TensorProto.INT8] == [TensorProto.INT8]
    assert "weight" not in kinds


def test_small_matrices_stay_as_they_are(weight: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integer_products, "LEAST_WEIGHTS", weight.size + 1)
    plain, integer = graph(weight), graph(weight)
    use_integer_products(integer)
    assert integer.graph.node == plain.graph.node
    assert integer.graph.initializer == plain.graph.initializer
