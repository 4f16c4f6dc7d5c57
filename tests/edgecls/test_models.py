from __future__ import annotations

import pytest
import torch
import torchvision
from torchvision.models.vision_transformer import MLPBlock

from edgecls import layer_table, models, published
from edgecls_runtime.errors import CheckpointError, ModelError

SMALL = "squeezenet1_1"


def test_the_first_class_archs_come_first_and_all_of_torchvision_follows():
    names = models.arch_names()
    assert names[:5] == ("alexnet", "vgg16", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large")
    assert sorted(names) == sorted(torchvision.models.list_models(module=torchvision.models))
    assert list(names[5:]) == sorted(names[5:])


@pytest.mark.parametrize("call", [models.build, models.skeleton, published.pretrained, published.default_pretrained])
def test_an_unknown_arch_is_refused_with_the_nearest_names(call):
    with pytest.raises(ModelError) as caught:
        call("VGG-16")
    assert caught.value.cause == "'VGG-16' is not an architecture"
    assert "Did you mean vgg16" in caught.value.remedy
    assert "edgecls models --all" in caught.value.remedy


def test_a_name_like_no_other_gets_no_suggestion():
    with pytest.raises(ModelError) as caught:
        layer_table.summarize("zzz")
    assert caught.value.remedy.startswith("`edgecls models --all`")


def test_build_gives_torchvisions_own_initialization_in_eval_mode():
    torch.manual_seed(3)
    expected = torchvision.models.get_model(SMALL, num_classes=7).state_dict()
    model = models.build(SMALL, num_classes=7, seed=3)
    assert not model.training
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())


def test_build_depends_on_the_seed_alone_and_leaves_the_callers_random_state():
    torch.manual_seed(1)
    expected = torch.rand(4)
    torch.manual_seed(1)
    first = models.build(SMALL)
    assert torch.equal(torch.rand(4), expected)
    weight = "classifier.1.weight"
    assert torch.equal(models.build(SMALL).state_dict()[weight], first.state_dict()[weight])
    assert not torch.equal(models.build(SMALL, seed=1).state_dict()[weight], first.state_dict()[weight])


@pytest.mark.parametrize("arch", ["googlenet", "inception_v3"])  # filterwarnings=error: no warning either
def test_archs_with_auxiliary_heads_answer_with_logits_alone(arch):
    model = models.build(arch, num_classes=3)
    assert model.transform_input
    with torch.no_grad():
        assert model(torch.zeros(1, 3, 96, 96)).shape == (1, 3)
        assert model.train()(torch.zeros(2, 3, 96, 96)).shape == (2, 3)


def test_only_vision_transformers_are_built_for_a_picture_size():
    assert models.skeleton("vit_b_32", image_size=384).image_size == 384
    assert models.skeleton("vit_h_14").image_size == 518  # its default preset's
    with pytest.raises(ModelError, match="vit_b_16 does not take pictures of 40x40: .* patches of 16x16") as caught:
        models.skeleton("vit_b_16", image_size=40)
    assert "a multiple of 16" in caught.value.remedy
    assert models.skeleton(SMALL, image_size=384)


def test_skeletons_of_all_archs_hold_the_state_and_nothing_else():
    """What `assemble` relies on: no tensor outside the state dict would stay uninitialized."""
    for arch in models.arch_names():
        skeleton = models.skeleton(arch)
        state = skeleton.state_dict()
        tensors = [*skeleton.named_parameters(), *skeleton.named_buffers()]
        assert {name for name, _ in tensors} == set(state), arch
        assert all(tensor.is_meta for tensor in state.values()), arch
        loose = [name for module in skeleton.modules() for name, v in vars(module).items() if torch.is_tensor(v)]
        assert not loose, arch


def test_a_skeleton_takes_no_memory():
    assert models.skeleton("alexnet", num_classes=10**9).classifier[6].weight.shape == (10**9, 4096)  # 16 TB


@pytest.mark.parametrize("arch", [SMALL, "mnasnet0_5", "regnet_x_400mf", "mobilenet_v3_small"])
def test_assemble_copies_the_weights_into_an_equal_model(arch):
    source = models.build(arch, num_classes=5)
    copy = models.assemble(arch, source.state_dict(), num_classes=5)
    picture = torch.rand(1, 3, 64, 64)
    assert not copy.training
    assert all(parameter.requires_grad for parameter in copy.parameters())
    with torch.no_grad():
        expected = source(picture)
        assert torch.equal(copy(picture), expected)
        next(copy.parameters()).zero_()
        assert torch.equal(source(picture), expected)


@pytest.mark.parametrize("change", ["missing", "unexpected", "shape"])
def test_assemble_refuses_what_does_not_fit(change):
    weights = dict(models.build(SMALL, num_classes=5).state_dict())
    name = "classifier.1.bias"
    tensor = weights.pop(name)
    if change == "unexpected":
        weights |= {name: tensor, (name := "spare"): tensor}
    if change == "shape":
        weights[name] = tensor[:1]  # would broadcast
    with pytest.raises(CheckpointError, match=rf"do not fit {SMALL} with 5 classes: see {name}"):
        models.assemble(SMALL, weights, num_classes=5)


# --- state dicts of other torchvision versions ---


def test_old_densenet_names_and_missing_counters_become_todays():
    new = models.skeleton("densenet121").state_dict()
    old = {
        name.replace("norm1", "norm.1").replace("conv1", "conv.1").replace("norm2", "norm.2").replace("conv2", "conv.2")
        if "denselayer" in name
        else name: tensor
        for name, tensor in new.items()
        if not name.endswith("num_batches_tracked")
    }
    assert len(old.keys() & new.keys()) < len(new) / 3
    assert models.canonical_state_dict("densenet121", old).keys() == new.keys()


def test_old_vision_transformer_names_become_what_torchvision_itself_makes_of_them():
    block = MLPBlock(2, 3, dropout=0.0)
    old = {f"linear_{i}.{kind}": torch.rand(shape) for i, kind, shape in [
        (1, "weight", (3, 2)), (1, "bias", (3,)), (2, "weight", (2, 3)), (2, "bias", (2,)),
    ]}  # fmt: skip
    block.load_state_dict(old)
    prefix = "encoder.layers.encoder_layer_0.mlp."
    canonical = models.canonical_state_dict("vit_b_32", {prefix + name: tensor for name, tensor in old.items()})
    assert {name.removeprefix(prefix) for name in canonical} == block.state_dict().keys()
    assert all(torch.equal(canonical[prefix + name], tensor) for name, tensor in block.state_dict().items())


def test_auxiliary_heads_go_from_the_archs_that_have_them_alone():
    state = {"aux1.conv.weight": torch.ones(1), "conv1.weight": torch.ones(1)}
    assert models.canonical_state_dict("googlenet", state).keys() == {"conv1.weight"}
    assert models.canonical_state_dict("alexnet", state).keys() == state.keys()
