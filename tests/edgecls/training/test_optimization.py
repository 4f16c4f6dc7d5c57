from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from edgecls.training.optimization import lr_factor, make_ema, make_optimizer, make_schedule


def network() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential()
    model.add_module("features", nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))
    model.add_module("classifier", nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 2)))
    model.add_module("classifier_like", nn.Linear(2, 2))
    return model


def optimizer_of(model: nn.Module, **changes):
    options = {"name": "sgd", "lr": 0.5, "backbone_lr_factor": 0.1, "weight_decay": 0.01, "momentum": 0.9}
    return make_optimizer(model, head="classifier", **(options | changes))


def by_name(model: nn.Module, optimizer: torch.optim.Optimizer, option: str) -> dict[str, float]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(item)]: group[option] for group in optimizer.param_groups for item in group["params"]}


@pytest.mark.parametrize("name", ["sgd", "adamw", "rmsprop"])
def test_every_parameter_has_its_rate_and_its_decay(name):
    model = network()
    model[0].requires_grad_(False)  # frozen now, and there when it is to learn again
    optimizer = optimizer_of(model, name=name)
    decay = by_name(model, optimizer, "weight_decay")
    assert {parameter for parameter, value in decay.items() if value} == {
        "features.0.weight",
        "classifier.1.weight",
        "classifier_like.weight",
    }
    assert set(decay.values()) == {0.0, 0.01}
    rates = by_name(model, optimizer, "lr")
    assert rates.keys() == dict(model.named_parameters()).keys()
    head = {"classifier.0.weight", "classifier.0.bias", "classifier.1.weight", "classifier.1.bias"}
    assert rates == {parameter: pytest.approx(0.5 if parameter in head else 0.05) for parameter in rates}


def test_the_optimizers_and_their_constants():
    model = network()
    assert type(optimizer_of(model)) is torch.optim.SGD
    assert optimizer_of(model).defaults["nesterov"] is True
    assert optimizer_of(model).defaults["momentum"] == 0.9
    assert optimizer_of(model, momentum=0.0).defaults["nesterov"] is False
    assert type(optimizer_of(model, name="adamw")) is torch.optim.AdamW
    rmsprop = optimizer_of(model, name="rmsprop", momentum=0.7)
    assert type(rmsprop) is torch.optim.RMSprop
    assert [rmsprop.defaults[name] for name in ("alpha", "eps", "momentum")] == [0.9, 0.0316, 0.7]


def test_a_frozen_parameter_is_left_alone_by_decay_too():
    model = network()
    model[0].requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    optimizer = optimizer_of(model, name="adamw")
    model[1](torch.rand(5, 4)).sum().backward()
    optimizer.step()
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"classifier.0.bias", "classifier.0.weight", "classifier.1.bias", "classifier.1.weight"}


# --- schedule ---

OPTIONS = {"steps": 110, "warmup_steps": 10, "step_every": 30, "step_gamma": 0.1}


@pytest.mark.parametrize("schedule", ["cosine", "step", "constant"])
def test_the_warm_up_rises_in_equal_steps_to_the_full_rate(schedule):
    found = [lr_factor(step, schedule=schedule, **OPTIONS) for step in range(11)]
    assert found == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.0])


@pytest.mark.parametrize(
    ("schedule", "points"),
    [
        ("cosine", {10: 1, 35: (1 + math.sqrt(0.5)) / 2, 60: 0.5, 85: (1 - math.sqrt(0.5)) / 2, 110: 0, 500: 0}),
        ("step", {29: 1, 30: 0.1, 59: 0.1, 60: 0.01, 90: 0.001}),
        ("constant", {10: 1, 60: 1, 110: 1, 500: 1}),
    ],
)
def test_schedules_at_chosen_points(schedule, points):
    found = {step: lr_factor(step, schedule=schedule, **OPTIONS) for step in points}
    assert found == pytest.approx(points, abs=1e-12)


def test_without_a_warm_up_the_first_step_is_full():
    options = OPTIONS | {"warmup_steps": 0}
    assert [lr_factor(0, schedule=schedule, **options) for schedule in ("cosine", "step", "constant")] == [1, 1, 1]


def test_a_training_that_is_all_warm_up_divides_by_nothing():
    found = [lr_factor(step, schedule="cosine", **OPTIONS | {"steps": 3, "warmup_steps": 3}) for step in range(4)]
    assert found == pytest.approx([1 / 3, 2 / 3, 1, 1])


def test_the_schedule_multiplies_each_groups_own_rate():
    model = network()
    optimizer = optimizer_of(model)
    schedule = make_schedule(optimizer, schedule="cosine", **OPTIONS)
    for step in range(70):
        factor = lr_factor(step, schedule="cosine", **OPTIONS)
        rates = by_name(model, optimizer, "lr")
        assert rates["classifier.1.weight"] == pytest.approx(0.5 * factor)
        assert rates["features.0.weight"] == pytest.approx(0.05 * factor)
        optimizer.step()
        schedule.step()


# --- moving average ---


@pytest.mark.parametrize("decay", [0.3, 0.9999])
def test_the_moving_average_equals_a_direct_loop(decay):
    model = network()
    ema = make_ema(model, decay)
    expected: dict[str, torch.Tensor] = {}
    for step in range(12):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
            model[0](torch.randn(2, 3, 5, 5))  # batch norm's statistics and its counter
        ema.update_parameters(model)
        for name, value in model.state_dict().items():
            if step == 0 or not value.is_floating_point():
                expected[name] = value.clone()
            else:
                kept = min(decay, (1 + step) / (10 + step))
                expected[name] = kept * expected[name] + (1 - kept) * value
    averaged = ema.module.state_dict()
    assert averaged.keys() == expected.keys()
    assert averaged["features.1.num_batches_tracked"].item() == 12
    for name, value in expected.items():
        assert torch.allclose(averaged[name], value, atol=1e-6), name
    assert not torch.allclose(averaged["features.1.running_mean"], model.state_dict()["features.1.running_mean"])


def test_a_saved_moving_average_goes_on_as_if_nothing_had_happened():
    model = network()
    whole, begun = make_ema(model, 0.9), make_ema(model, 0.9)
    for step in range(8):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(1.0)
        whole.update_parameters(model)
        if step == 4:
            state = copy.deepcopy(begun.state_dict())
            begun = make_ema(network(), 0.9)
            begun.load_state_dict(state)
        begun.update_parameters(model)
    for one, other in zip(whole.state_dict().values(), begun.state_dict().values(), strict=True):
        assert torch.equal(one, other)
