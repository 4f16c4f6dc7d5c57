from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgecls_export.equalization import equalize
from edgecls_export.graph import constants

Run = Callable[[object, np.ndarray], np.ndarray]


def net(between: str = "Relu", *, multiplier: int = 1, full: bool = False, uneven: float = 1000.0) -> onnx.ModelProto:
    """Conv, an activation, a depthwise (or full) Conv; the channels' weights span a factor of ``uneven``."""
    random = np.random.default_rng(5)
    sizes = np.geomspace(1 / uneven, 1, 8).astype(np.float32)
    first = random.normal(size=(8, 3, 3, 3)).astype(np.float32) * sizes[:, None, None, None]
    outputs = 5 if full else 8 * multiplier
    second = random.normal(size=(outputs, 8 if full else 1, 3, 3)).astype(np.float32)
    values = {
        "w1": first,
        "b1": random.normal(size=8).astype(np.float32) * sizes,
        "w2": second,
        "low": np.float32(0),
        "six": np.float32(6),
        "max": np.finfo(np.float32).max,
    }
    inputs = {"Clip": ["a", "low", "six"], "open Clip": ["a", "low", "max"], "half open": ["a", "low"]}.get(
        between, ["a"]
    )
    operator = "Clip" if between in ("open Clip", "half open") else between
    attributes = {"kernel_shape": [2, 2]} if operator == "MaxPool" else {}
    nodes = [
        helper.make_node("Conv", ["input", "w1", "b1"], ["a"], name="first"),
        helper.make_node(operator, inputs, ["b"], name="between", **attributes),
        helper.make_node("Conv", ["b", "w2"], ["logits"], name="second", group=1 if full else 8),
    ]
    infos = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", c, None, None])
        for name, c in (("input", 3), ("logits", outputs))
    ]
    graph = helper.make_graph(
        nodes, "pair", infos[:1], infos[1:], [numpy_helper.from_array(np.asarray(v), k) for k, v in values.items()]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def ranges(model: onnx.ModelProto) -> tuple[np.ndarray, np.ndarray]:
    """The largest weight of each channel between the layers, on either side."""
    values = constants(model)
    second = values["w2"]
    by_input = second.reshape(8, -1) if second.shape[1] == 1 else second.swapaxes(0, 1).reshape(8, -1)
    return np.abs(values["w1"].reshape(8, -1)).max(axis=1), np.abs(by_input).max(axis=1)


PICTURE = np.random.default_rng(0).normal(size=(2, 3, 9, 9)).astype(np.float32)


@pytest.mark.parametrize("between", ["Relu", "open Clip", "half open", "MaxPool", "LeakyRelu"])
@pytest.mark.parametrize(("multiplier", "full"), [(1, False), (2, False), (1, True)])
def test_both_sides_share_the_range_and_the_function_stays(between: str, multiplier: int, full: bool, run: Run) -> None:
    model = net(between, multiplier=multiplier, full=full)
    result, report = equalize(model)
    assert report.pairs == (("first", "second"),)
    assert report.largest_factor > 5
    before, after = ranges(model), ranges(result)
    np.testing.assert_allclose(after[0], after[1], rtol=1e-2)
    np.testing.assert_allclose(after[0], np.sqrt(before[0] * before[1]), rtol=1e-2)
    expected = run(model, PICTURE)
    np.testing.assert_allclose(run(result, PICTURE), expected, atol=1e-5 * np.abs(expected).max())


def test_one_scale_for_all_channels_rounds_less_afterwards(run: Run) -> None:
    """What it is for: with one scale for the whole tensor, the small channels are lost."""

    def rounded(model: onnx.ModelProto) -> onnx.ModelProto:
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        for item in copy.graph.initializer:
            if item.name in ("w1", "w2"):
                values = numpy_helper.to_array(item)
                scale = np.abs(values).max() / 127
                item.CopyFrom(numpy_helper.from_array(np.round(values / scale) * scale, item.name))
        return copy

    model = net(uneven=300.0)
    expected = run(model, PICTURE)
    errors = []
    for candidate in (model, equalize(model)[0]):
        relative = np.abs(run(rounded(candidate), PICTURE) - expected).mean(axis=(0, 2, 3))
        errors.append(float((relative / np.abs(expected).mean(axis=(0, 2, 3))).max()))
    assert errors[0] > 0.5
    assert errors[1] < 0.2


def test_a_clip_that_ends_lets_no_factor_pass() -> None:
    model = net("Clip")
    result, report = equalize(model)
    assert (report.pairs, report.clipped, report.largest_factor) == ((), 1, 1.0)
    assert result == model
    assert str(report) == "0 pairs of layers equalized (factors up to 1), 1 left alone because of a Clip between them"


@pytest.mark.parametrize("between", ["Sigmoid", "HardSwish", "Softmax"])
def test_other_activations_let_no_factor_pass(between: str) -> None:
    assert equalize(net(between))[1].pairs == ()


def test_a_tensor_with_another_reader_is_left_alone() -> None:
    for name in ("a", "b", "w1", "b1", "w2"):
        model = net()
        model.graph.node.append(helper.make_node("Identity", [name], ["other"], name="other"))
        assert equalize(model)[1].pairs == (), name
    model = net()
    model.graph.output.append(onnx.ValueInfoProto(name="b"))
    assert equalize(model)[1].pairs == ()


@pytest.mark.parametrize("weight", [0, 1e-20])
def test_a_dead_channel_stays_as_it_is(weight: float, run: Run) -> None:
    model = net()
    (first,) = (item for item in model.graph.initializer if item.name == "w1")
    values = numpy_helper.to_array(first).copy()
    values[3] = weight
    first.CopyFrom(numpy_helper.from_array(values, "w1"))
    result, report = equalize(model)
    assert np.isfinite(constants(result)["w1"]).all()
    assert report.largest_factor < 100
    np.testing.assert_allclose(run(result, PICTURE), run(model, PICTURE), atol=1e-4)


def test_the_small_net_keeps_its_answers(graph: onnx.ModelProto, batch: np.ndarray, run: Run) -> None:
    result, report = equalize(graph)
    assert report.pairs == (("expand_node", "depthwise_node"),)  # behind HardSwish and through the residual nothing is
    np.testing.assert_allclose(run(result, batch), run(graph, batch), atol=1e-5)
