from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from edgecls import checkpoint, models
from edgecls.checkpoint import Checkpoint
from edgecls.training import transfer
from edgecls_runtime.errors import CheckpointError, ModelError
from edgecls_runtime.preprocess import Preprocess

ARCH = "shufflenet_v2_x0_5"
SMALL = Preprocess(resize_size=36, crop_size=(32, 32), mean=(0.1, 0.2, 0.3))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A checkpoint that knows cats and dogs, and its file."""
    model = models.build(ARCH, num_classes=2, seed=8)
    state_dict = {name: value.clone() for name, value in model.state_dict().items()}
    for name, value in state_dict.items():
        if name.endswith("running_mean"):
            value.add_(0.5)
    made = Checkpoint(arch=ARCH, labels=("cat", "dog"), preprocess=SMALL, state_dict=state_dict)
    path = tmp_path_factory.mktemp("trained") / "pets.pt"
    checkpoint.save(made, path)
    return made, path


def changed(model: nn.Module, state_dict: dict[str, torch.Tensor]) -> set[str]:
    found = model.state_dict()
    assert found.keys() == state_dict.keys()
    return {
        name
        for name, value in found.items()
        if value.shape != state_dict[name].shape or not torch.equal(value, state_dict[name])
    }


# --- where it begins ---


def test_the_same_labels_keep_the_head(trained):
    made, path = trained
    start = transfer.start_from(ARCH, str(path), ("cat", "dog"))
    assert changed(start.model, made.state_dict) == set()
    assert start.preprocess == SMALL
    assert start.weights == made.weights
    assert "with its head for these 2 labels" in start.notes[-1]


@pytest.mark.parametrize("labels", [("cat", "emu"), ("dog", "cat"), ("cat", "dog", "emu"), ("cat",)])
def test_other_labels_or_another_order_get_a_new_head_and_keep_the_rest(trained, labels):
    made, path = trained
    start = transfer.start_from(ARCH, str(path), labels, seed=3)
    assert changed(start.model, made.state_dict) == {"fc.weight", "fc.bias"}
    assert start.model.fc.out_features == len(labels)
    assert not start.model.training
    assert f"with a new last layer for {len(labels)} classes (fc.weight, fc.bias)" in start.notes[-1]


def test_the_new_head_depends_on_the_seed_alone(trained):
    heads = [transfer.start_from(ARCH, str(trained[1]), ("x", "y"), seed=seed).model.fc.weight for seed in (3, 3, 4)]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_a_preprocess_that_is_named_goes_before_that_of_the_weights(trained):
    other = dataclasses.replace(SMALL, crop_size=(24, 24))
    for labels in (("cat", "dog"), ("x", "y")):
        assert transfer.start_from(ARCH, str(trained[1]), labels, preprocess=other).preprocess == other


@pytest.mark.parametrize("classes", [5, 1000])  # 1,000 would be taken for ImageNet's
def test_a_bare_state_dict_of_any_number_of_classes_will_do(tmp_path, classes):
    """Its classes have no names, and need none: the head is replaced."""
    state_dict = models.build(ARCH, num_classes=classes, seed=1).state_dict()
    torch.save(state_dict, tmp_path / "bare.pth")
    start = transfer.start_from(ARCH, str(tmp_path / "bare.pth"), ("x", "y", "z"), preprocess=SMALL)
    assert changed(start.model, state_dict) == {"fc.weight", "fc.bias"}
    assert [note.partition(":")[0] for note in start.notes] == ["weights"]


def test_no_weights_are_random_ones_of_the_seed():
    first = transfer.start_from(ARCH, "none", ("x", "y"), seed=5, preprocess=SMALL)
    assert changed(first.model, models.build(ARCH, num_classes=2, seed=5).state_dict()) == set()
    assert (first.weights, first.notes, first.preprocess) == ("random", ("weights: random (seed 5)",), SMALL)


def test_weights_that_do_not_fit_are_refused(trained, tmp_path):
    with pytest.raises(CheckpointError, match=f"is a checkpoint of {ARCH}, not of squeezenet1_1"):
        transfer.start_from("squeezenet1_1", str(trained[1]), ("x", "y"))
    with pytest.raises(CheckpointError, match=r"gone.pt: no such file"):
        transfer.start_from(ARCH, str(tmp_path / "gone.pt"), ("x", "y"))
    with pytest.raises(ModelError, match="'shufflenet' is not an architecture"):
        transfer.start_from("shufflenet", "none", ("x", "y"))


# --- what may learn ---


@pytest.mark.parametrize(
    ("arch", "head"),
    [
        ("alexnet", "classifier"),
        ("mobilenet_v3_small", "classifier"),
        ("squeezenet1_1", "classifier"),
        (ARCH, "fc"),
        ("vit_b_32", "heads"),
        ("swin_t", "head"),
    ],
)
def test_the_head_is_the_child_that_classifies(arch, head):
    assert transfer.head_of(arch) == head
    assert head in dict(models.skeleton(arch).named_children())


def learnable(model: nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("arch", [ARCH, "squeezenet1_1", "mobilenet_v3_small"])
def test_freezing_and_unfreezing(arch):
    model, head = models.build(arch, num_classes=2), transfer.head_of(arch)
    everything = learnable(model)
    transfer.freeze_backbone(model, head, frozen=True)
    assert learnable(model) == {name for name in everything if name.startswith(f"{head}.")} != set()
    transfer.freeze_backbone(model, head, frozen=False)
    assert learnable(model) == everything


def step(model: nn.Module) -> set[str]:
    """Learn from one batch and return what moved."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    torch.manual_seed(0)
    model(torch.randn(4, 3, 64, 64)).square().sum().backward()
    optimizer.step()
    return changed(model, before)


def test_a_frozen_part_stays_as_it_is_statistics_and_all_until_it_is_unfrozen():
    model, head = models.build("mobilenet_v3_small", num_classes=2), "classifier"
    transfer.freeze_backbone(model, head, frozen=True)
    transfer.train_mode(model, head, frozen=True)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    assert not any(module.training for module in norms)
    assert model.classifier[2].training  # the head's dropout
    moved = step(model)
    assert moved
    assert all(name.startswith("classifier.") for name in moved)

    transfer.freeze_backbone(model, head, frozen=False)
    transfer.train_mode(model, head, frozen=False)
    assert all(module.training for module in model.modules())
    moved = step(model)
    assert "features.0.0.weight" in moved
    assert "features.0.1.running_mean" in moved
    assert "features.0.1.num_batches_tracked" in moved


def test_dropout_and_batch_norm_are_adjusted_where_given():
    def values(model: nn.Module) -> tuple[set[float], set[float]]:
        modules = list(model.modules())
        return (
            {module.p for module in modules if isinstance(module, nn.Dropout)},
            {module.momentum for module in modules if isinstance(module, nn.BatchNorm2d)},
        )

    model = models.skeleton("mobilenet_v3_small")
    assert values(model) == ({0.2}, {0.01})
    transfer.adjust_layers(model)
    assert values(model) == ({0.2}, {0.01})
    transfer.adjust_layers(model, dropout=0.0)
    assert values(model) == ({0.0}, {0.01})
    transfer.adjust_layers(model, batchnorm_momentum=0.3)
    assert values(model) == ({0.0}, {0.3})


@pytest.mark.parametrize("size", [None, 64])
def test_another_size_is_said(size):
    start = transfer.start_from("mobilenet_v3_small", "none", ("cat", "dog"), image_size=size)
    said = [note for note in start.notes if note.startswith("image size")]
    assert said == ([] if size is None else ["image size 64: resize shorter side to 73, crop 64x64"])
