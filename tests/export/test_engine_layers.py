from __future__ import annotations

from edgecls_export.engine_layers import EngineLayer, count_layers, read_layers


def tensor(name: str, dtype: str) -> str:
    return f"{{ Name: {name}, Dimensions: [-1,8,4,4], Strides: [128,16,4,1], Datatype: {dtype}, Format: (Linear) }}"


def line(name: str, kind: str, inputs: str = "", constants: str = "", outputs: str = "", nodes: str = "") -> str:
    return (
        f"Name: {name}, LayerType: {kind}, Inputs: [{inputs}], Constants: [{constants}], Outputs: [{outputs}], "
        f"TacticName: __myelin_STUB, StreamId: 0, Metadata: {nodes}"
    )


SHAPES = line("shapes_0", "shape_call")
QUANTIZE = line(
    "kgen_1", "kgen", f" {tensor('input', 'Float')}", "", f" {tensor('q', 'Int8')}", "[ONNX Layer: quantize]"
)
CONVOLUTION = line(
    "conv_2",
    "correlation",
    f" {tensor('q', 'Int8')}",
    f" {tensor('w', 'Int8')}, {tensor('scale', 'Float')}, {tensor('bias', 'Float')}",
    f" {tensor('x', 'Half')}",
    "[ONNX Layer: dequantize][ONNX Layer: conv, the first]",
)
RESIDUAL = line("kgen_3", "kgen", f" {tensor('x', 'Half')}, {tensor('y', 'Float')}", "", f" {tensor('logits', 'Half')}")
END = " I/O Tensors: Name: input, IOMode: Input, DataType: Float"


def test_what_tensorrt_lists() -> None:
    layers = read_layers(" ".join(("Layers:", SHAPES, QUANTIZE, CONVOLUTION, RESIDUAL)) + END)
    assert [layer.name for layer in layers] == ["shapes_0", "kgen_1", "conv_2", "kgen_3"]
    assert layers[0] == EngineLayer("shapes_0", "shape_call", (), (), (), ())
    assert layers[2] == EngineLayer(
        name="conv_2",
        kind="correlation",
        inputs=("int8",),
        constants=("float32", "int8"),
        outputs=("float16",),
        nodes=("dequantize", "conv, the first"),
    )
    assert [layer.nodes for layer in layers] == [(), ("quantize",), ("dequantize", "conv, the first"), ()]


def test_they_are_counted_by_kind_and_what_flows_in() -> None:
    layers = read_layers(" ".join((SHAPES, RESIDUAL, CONVOLUTION, CONVOLUTION)))
    assert list(count_layers(layers).items()) == [("correlation int8", 2), ("kgen float16+float32", 1)]


def test_a_list_in_another_form_is_none() -> None:
    assert read_layers("") == ()
    assert read_layers("Layer(Reformat): conv_0, Tactic: 0x0, input (Float[1,3,8,8]) -> x (Half[1,8,4,4])") == ()
