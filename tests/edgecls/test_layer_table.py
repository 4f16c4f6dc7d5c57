from __future__ import annotations

import gc
import weakref

import pytest
import torch
import torchvision

from edgecls import layer_table, models
from edgecls_runtime.errors import ModelError

SMALL = "squeezenet1_1"


@pytest.mark.parametrize(
    ("arch", "parameters", "multiply_adds"),
    [
        ("alexnet", "61,100,840", "714.68 M"),
        ("vgg16", "138,357,544", "15.48 G"),
        ("mobilenet_v2", "3,504,872", "300.81 M"),
    ],
)
def test_the_summary_shows_the_known_figures(arch, parameters, multiply_adds, capsys):
    summary = layer_table.summarize(arch)
    assert summary.input_size == (1, 3, 224, 224)
    assert f"{summary.parameters:,}" == parameters
    lines = str(summary).splitlines()
    assert lines[0] == f"{arch}, input 1x3x224x224"
    assert lines[-2:] == [f"parameters     {parameters} ({parameters} trainable)", f"multiply-adds  {multiply_adds}"]
    assert capsys.readouterr() == ("", "")


def test_the_table_is_a_tree_with_subtotals():
    lines = str(layer_table.summarize("alexnet", num_classes=10)).splitlines()
    assert lines[2].split() == ["layer", "kind", "output", "parameters", "multiply-adds"]
    assert lines[4].split() == ["features", "Sequential", "1x256x6x6", "2,469,696", "656.05", "M"]
    assert lines[5].split() == ["0", "Conv2d", "1x64x55x55", "23,296", "70.47", "M"]
    assert lines[5].startswith("  0 ")
    assert lines[-4].split() == ["6", "Linear", "1x10", "40,970", "40.97", "K"]


@pytest.mark.parametrize("arch", ["resnet18", "mobilenet_v3_small"])  # resnet calls one ReLU twice a block
def test_subtotals_add_up_at_every_level(arch):
    summary = layer_table.summarize(arch)
    assert summary.layers[0].name == {"resnet18": "conv1", "mobilenet_v3_small": "features"}[arch]
    for count in ("parameters", "multiply_adds"):
        for parent in {layer.name.rpartition(".")[0] for layer in summary.layers}:
            children = [layer for layer in summary.layers if layer.name.rpartition(".")[0] == parent]
            whole = next((layer for layer in summary.layers if layer.name == parent), summary)
            assert sum(getattr(layer, count) for layer in children) == getattr(whole, count), (count, parent)


@pytest.mark.parametrize("arch", ["resnet50", "inception_v3", "regnet_x_400mf", "convnext_tiny"])
def test_multiply_adds_agree_with_torchvisions_own_count(arch):
    published = torchvision.models.get_model_weights(arch).DEFAULT.meta["_ops"]
    assert layer_table.summarize(arch).multiply_adds / 1e9 == pytest.approx(published, rel=0.01)


def test_attention_says_that_it_is_not_counted():
    assert str(layer_table.summarize("vit_b_32")).endswith("G, not counting attention")


def test_the_input_size_is_the_default_presets_unless_given():
    assert layer_table.summarize("efficientnet_b1").input_size == (1, 3, 240, 240)
    assert layer_table.summarize("vit_h_14").input_size == (1, 3, 518, 518)
    larger = layer_table.summarize("vit_b_32", input_size=(1, 3, 384, 384))
    assert larger.parameters > layer_table.summarize("vit_b_32").parameters


def test_a_model_is_summarized_as_it_is_and_left_as_it_was():
    model = models.build(SMALL, num_classes=3).train()
    for parameter in model.features.parameters():
        parameter.requires_grad = False
    torch.manual_seed(1)
    expected = torch.rand(4)
    torch.manual_seed(1)
    summary = layer_table.summarize(model)
    assert torch.equal(torch.rand(4), expected)
    assert model.training
    assert summary.arch == "SqueezeNet"
    assert summary.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert summary.trainable_parameters == 512 * 3 + 3
    assert "trainable)" in str(summary)


def test_a_summary_does_not_keep_the_model():
    model = models.build(SMALL, num_classes=3)
    layer_table.summarize(model)
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize(("arch", "size"), [("alexnet", (1, 3, 16, 16)), ("alexnet", (1, 1, 224, 224))])
def test_an_input_that_does_not_run_is_a_model_error(arch, size):
    with pytest.raises(ModelError) as caught:
        layer_table.summarize(arch, input_size=size)
    assert caught.value.cause.startswith(f"alexnet does not run on an input of {'x'.join(map(str, size))}: ")
    assert "\n" not in caught.value.cause


class Twice(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 3, 1)

    def forward(self, pictures):
        return self.conv(self.conv(pictures))


def test_a_layer_that_runs_twice_has_its_parameters_once():
    summary = layer_table.summarize(Twice(), input_size=(1, 3, 5, 5))
    assert [(row.parameters, row.multiply_adds) for row in summary.layers] == [(12, 300), (0, 300)]
    assert (summary.parameters, summary.multiply_adds) == (12, 600)
