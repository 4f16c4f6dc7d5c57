from __future__ import annotations

import argparse
import dataclasses
import hashlib
import io
import os
import pickle
import struct
import time
import warnings

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecls import checkpoint, models, published
from edgecls.checkpoint import Checkpoint, state_dict_sha256
from edgecls.weights import load_weights, resolve
from edgecls_runtime.errors import CheckpointError, EdgeclsError, ModelError, OutputError
from edgecls_runtime.preprocess import Preprocess

SMALL = "squeezenet1_1"
LABELS = ("cat", "dog", "bird")


def random_weights(num_classes=3, seed=0, arch=SMALL):
    return dict(models.build(arch, num_classes=num_classes, seed=seed).state_dict())


def example(**changes):
    return Checkpoint(
        **{
            "arch": SMALL,
            "labels": LABELS,
            "preprocess": Preprocess(resize_size=(96, 64), crop_size=(64, 64), interpolation="bicubic"),
            "state_dict": random_weights(),
            "activation": "sigmoid",
            "thresholds": (0.5, 0.25, 0.75),
            "weights": "SqueezeNet1_1_Weights.IMAGENET1K_V1",
            "metrics": {"acc@1": 71.5},
            "history": ({"epoch": 1.0, "loss": 2.5}, {"epoch": 2.0, "loss": 1.25}),
        }
        | changes
    )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "best.pt"


@pytest.fixture
def saved(path):
    """The document of a good checkpoint, to be spoiled."""
    checkpoint.save(example(), path)
    return torch.load(path, weights_only=True)


def refused(path, document=None, **options):
    """Return the error of reading a file, after writing the document to it."""
    if document is not None:
        torch.save(document, path)
    with pytest.raises(CheckpointError) as caught:
        if options:
            load_weights(path, **options)
        else:
            checkpoint.load(path)
    error = caught.value
    assert error.cause.startswith(f"{path}: ")
    assert error.cause.isprintable()
    assert error.remedy.isprintable()
    return error


# --- our own file ---


def test_a_checkpoint_comes_back_as_it_was_saved(path):
    before = example(assumptions=("a guess",))
    checkpoint.save(before, path)
    after = checkpoint.load(path)
    for item in dataclasses.fields(Checkpoint):
        if item.name not in ("state_dict", "assumptions"):
            assert getattr(after, item.name) == getattr(before, item.name), item.name
    assert after.assumptions == ()
    assert list(after.state_dict) == list(before.state_dict)
    assert all(torch.equal(tensor, before.state_dict[name]) for name, tensor in after.state_dict.items())


def test_a_checkpoint_prints_itself_in_a_line_and_not_its_tensors():
    one = example(labels=("cat", "dog", "bird", "cow"), thresholds=(0.5,) * 4)
    assert str(one) == (
        "squeezenet1_1, 4 labels (cat, dog, bird, +1 more), sigmoid, "
        "weights SqueezeNet1_1_Weights.IMAGENET1K_V1, acc@1 71.5"
    )
    assert "tensor" not in repr(one)


def test_the_file_is_a_dict_of_plain_types(saved):
    assert saved.pop("format") == "edgecls.checkpoint/1"
    assert all(type(tensor) is torch.Tensor for tensor in saved.pop("state_dict").values())
    assert saved == {
        "arch": SMALL,
        "labels": ["cat", "dog", "bird"],
        "preprocess": dataclasses.asdict(example().preprocess) | {
            "resize_size": [96, 64], "crop_size": [64, 64], "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225],
        },
        "activation": "sigmoid",
        "thresholds": [0.5, 0.25, 0.75],
        "weights": "SqueezeNet1_1_Weights.IMAGENET1K_V1",
        "metrics": {"acc@1": 71.5},
        "history": [{"epoch": 1.0, "loss": 2.5}, {"epoch": 2.0, "loss": 1.25}],
    }  # fmt: skip


def test_build_gives_the_model_in_eval_mode_with_a_copy_of_the_weights():
    one = example()
    model = one.build()
    assert not model.training
    picture = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model(picture), models.build(SMALL, num_classes=3)(picture))
        next(model.parameters()).zero_()
    assert next(iter(one.state_dict.values())).any()


def test_build_refuses_weights_that_do_not_fit():
    with pytest.raises(CheckpointError, match="do not fit squeezenet1_1 with 3 classes"):
        example(state_dict=random_weights(num_classes=4)).build()


def test_saving_overwrites_whole_or_not_at_all(path, monkeypatch):
    checkpoint.save(example(metrics={"acc@1": 1.0}), path)
    checkpoint.save(example(metrics={"acc@1": 2.0}), path)
    assert checkpoint.load(path).metrics == {"acc@1": 2.0}
    before = path.read_bytes()

    def broken(_document, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", broken)
    with pytest.raises(OutputError):
        checkpoint.save(example(), path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_saving_into_no_folder_is_an_output_error(tmp_path):
    with pytest.raises(OutputError):
        checkpoint.save(example(), tmp_path / "absent" / "best.pt")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ()}, "labels: is empty"),
        ({"labels": ("cat", "", "bird")}, r"labels\[1\]: '' is empty or"),
        ({"labels": ("cat", "dog", "\x1b[2J")}, r"labels\[2\]: '\\x1b\[2J' is empty or holds a control character"),
        ({"activation": "softmax"}, r"thresholds: go with activation sigmoid alone \(activation is softmax\)"),
        ({"thresholds": None}, r"thresholds: go with activation sigmoid alone \(activation is sigmoid\)"),
        ({"thresholds": (0.5,)}, "thresholds: has 1 values for 3 labels"),
        ({"weights": "a\nb"}, "control character"),
        ({"metrics": {"a\x1b": 1.0}}, "control character"),
    ],
)
def test_fields_that_contradict_one_another_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        example(**changes)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("format", "edgecls.checkpoint/2", "is of format 'edgecls.checkpoint/2'; this edgecls reads"),
        ("arch", None, "lacks the field 'arch'"),
        ("arch", 3, "arch: is 3, not of type str"),
        ("arch", {(1, 2): 3}, "is damaged: "),
        ("labels", None, "lacks the field 'labels'"),
        ("labels", "cat", "labels: is \"cat\", not a list"),
        ("labels", ["cat", 5, "dog"], "labels[1]: is 5, not of type str"),
        ("labels", ["cat", "dog"], "thresholds: has 3 values for 2 labels"),
        ("labels", ["cat", "dog", "\x1b[2J"], "labels[2]: "),
        ("preprocess", {"resize_size": 0}, "must be of 1 to 8192 pixels"),
        ("preprocess", {"interpolation": "lanczos"}, "preprocess: interpolation: is \"lanczos\", not one of nearest"),
        ("activation", "relu", "activation: is \"relu\", not one of softmax, sigmoid"),
        ("thresholds", [1, 2, "x"], "thresholds[2]: is \"x\", not of type float"),
        ("metrics", [], "metrics: is [], not an object"),
        ("history", [1], "history[0]: is 1, not an object"),
        ("surprise", 1, "has an unknown field 'surprise'"),
        ("state_dict", None, "state_dict: is missing, or not tensors by name"),
        ("state_dict", {}, "state_dict: is missing, or not tensors by name"),
        ("state_dict", {"a": 1}, "state_dict: is missing, or not tensors by name"),
        ("state_dict", {1: torch.ones(1)}, "state_dict: is missing, or not tensors by name"),
    ],
)  # fmt: skip
def test_a_spoiled_field_is_named(path, saved, field, value, message):
    document = saved | {field: value}
    if value is None:
        del document[field]
    error = refused(path, document)
    assert message in error.cause
    assert "train again" in error.remedy


def test_assumptions_in_a_file_are_not_believed(path, saved):
    torch.save(saved | {"assumptions": ["\x1b[2J"]}, path)
    assert checkpoint.load(path).assumptions == ()


def test_a_checkpoint_of_an_unknown_arch_is_refused(path, saved):
    error = refused(path, saved | {"arch": "squeezenet1_2"})
    assert error.cause == f"{path}: arch: 'squeezenet1_2' is not an architecture"
    assert error.remedy.startswith("Did you mean squeezenet1_1, squeezenet1_0? ")


def test_labels_and_classes_must_be_as_many(path, saved):
    error = refused(path, saved | {"state_dict": random_weights(num_classes=10)})
    assert error.cause == f"{path}: has 10 classes, but there are 3 labels"
    assert "--labels FILE" in error.remedy


def test_a_state_dict_is_no_checkpoint_of_ours(path):
    error = refused(path, {"state_dict": random_weights(), "epoch": 3})
    assert error.cause == f"{path}: is not a checkpoint of edgecls (a dict of 'state_dict', 'epoch')"
    assert f"edgecls export ARCH --weights {path}" in error.remedy


# --- files that are no checkpoints at all ---


class Evil:
    def __reduce__(self):
        return os.system, ("touch pwned",)


def as_bytes(document, **options):
    buffer = io.BytesIO()
    torch.save(document, buffer, **options)
    return buffer.getvalue()


def torchscript():
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(torch.nn.ReLU()), buffer)
    return buffer.getvalue()


GOOD = as_bytes({"weight": torch.ones(5000)})
ONE = struct.pack("<f", 1.0)


@pytest.mark.parametrize("reader", [{}, {"arch": SMALL}])
@pytest.mark.parametrize(
    ("content", "cause", "remedy"),
    [
        (b"", "is empty", "cut short"),
        (b"hello world", "is not a file of torch.save (it starts with b'hell')", "checkpoint of edgecls"),
        (b"\x08\x07\x12\x07pytorch", "is not a file of torch.save", "torch.save"),
        (GOOD[: len(GOOD) // 2], "is cut short", "again"),
        (GOOD[:-10], "is cut short", "again"),
        (GOOD.replace(b"data.pkl", b"date.pkl"), "is damaged: ", "again"),
        (
            GOOD.replace(ONE, struct.pack("<f", 1.5), 1),
            "is damaged: archive/data/0 does not match its checksum",
            "again",
        ),
        (as_bytes({"weight": torch.ones(5000)}, _use_new_zipfile_serialization=False)[:9000], "is damaged", "again"),
        (b"\x80\x02" + bytes(50), "is damaged", "whole"),
        (torchscript(), "is damaged: Cannot use ``weights_only=True`` with TorchScript archives", "again"),
        (as_bytes({"weight": Evil()}), "wants to run code on loading (posix.system)", "state_dict()"),
        (as_bytes(Evil(), _use_new_zipfile_serialization=False), "run code on loading (posix.system)", "state_dict()"),
        (pickle.dumps(Evil(), protocol=2), "wants to run code on loading (posix.system)", "state_dict()"),
        (pickle.dumps(Evil(), protocol=4), "is damaged, or not a file of torch.save", "checkpoint of edgecls"),
        (
            as_bytes(Evil(), _use_new_zipfile_serialization=False).replace(b"posix\nsystem", b"posix\n\x1b[2J"),
            r"wants to run code on loading ('posix.\x1b[2J')",
            "state_dict()",
        ),
        (as_bytes(torch.nn.ReLU()), "run code on loading (torch.nn.modules.activation.ReLU)", "state_dict()"),
    ],
    ids=[
        "empty",
        "text",
        "onnx",
        "half a zip",
        "zip without its end",
        "zip without its pickle",
        "flipped bit",
        "half an old file",
        "zeros",
        "torchscript",
        "evil",
        "old evil",
        "pickled evil",
        "newer pickled evil",
        "evil to terminals",
        "pickled module",
    ],
)
def test_a_file_that_is_none_says_why(tmp_path, monkeypatch, path, reader, content, cause, remedy):
    monkeypatch.chdir(tmp_path)
    path.write_bytes(content)
    error = refused(path, **reader)
    assert cause in error.cause
    assert remedy in error.remedy
    assert os.listdir(tmp_path) == [path.name]


def test_paths_without_a_file_are_named(tmp_path):
    assert refused(tmp_path / "absent.pt").cause.endswith("absent.pt: no such file")
    assert refused(tmp_path).cause.endswith("is not a file")
    assert refused(tmp_path / ("n" * 300)).cause.endswith("cannot be read: File name too long")
    os.mkfifo(tmp_path / "pipe.pt")  # opening it would wait for ever
    assert refused(tmp_path / "pipe.pt").cause.endswith("is not a file")


def test_a_file_that_cannot_be_opened_is_named(path, saved, monkeypatch):
    def denied(*_args, **_options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "open", denied)
    assert refused(path).cause == f"{path}: cannot be read: Permission denied"


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_no_damage_leads_anywhere_but_to_an_error_of_ours(tmp_path_factory, data):
    content = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    file = tmp_path_factory.mktemp("damage") / "weights.pt"
    file.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    with pytest.raises(EdgeclsError):
        checkpoint.load(file)


# --- what others save ---


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3, "best": 0.5},
        lambda state: {"model_state_dict": state, "optimizer_state_dict": {}},
        lambda state: {"model": state, "args": argparse.Namespace(lr=0.1)},  # torchvision's references
        lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
        lambda state: {"model": {f"module._orig_mod.{name}": tensor for name, tensor in state.items()}},
        lambda state: {name: torch.nn.Parameter(tensor) for name, tensor in state.items()},
        lambda state: {name: tensor.double() for name, tensor in state.items()},
        lambda state: dict(reversed(state.items())),
    ],
)
def test_common_wrappings_are_read(path, wrap):
    state = random_weights()
    torch.save(wrap(state), path)
    loaded = load_weights(path, arch=SMALL, labels=LABELS)
    assert list(loaded.state_dict) == list(state)
    assert all(type(tensor) is torch.Tensor for tensor in loaded.state_dict.values())
    assert state_dict_sha256(loaded.state_dict) == state_dict_sha256(state)
    assert (loaded.arch, loaded.labels, loaded.weights, loaded.metrics) == (SMALL, LABELS, "best.pt", {})
    assert (loaded.activation, loaded.thresholds, loaded.history) == ("softmax", None, ())


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_weights_that_are_quantized_already_are_refused(path):
    quantized = torch.quantize_per_tensor(torch.ones(4), 0.1, 0, torch.qint8)
    for document in ({"conv.weight": quantized}, {"model": {"conv.weight": quantized, "conv.scale": 0.5}}):
        error = refused(path, document, arch=SMALL)
        assert error.cause == f"{path}: is quantized already (conv.weight is torch.qint8)"
        assert "float weights" in error.remedy


@pytest.mark.parametrize(
    ("document", "contents"),
    [
        ({}, "an empty dict"),
        ([torch.ones(1)], "a list"),
        (torch.ones(1), "a Tensor"),
        ({"epoch": 3, "best": 1}, "a dict of 'epoch', 'best'"),
        ({"state_dict": {"a": 1}}, "a dict of 'a'"),
        ({"a\x1b": torch.ones(1)}, r"a dict of 'a\x1b'"),
        ({1: torch.ones(1)}, "a dict of 1"),
    ],
)
def test_a_file_without_a_state_dict_says_what_it_holds(path, document, contents):
    error = refused(path, document, arch=SMALL)
    assert error.cause == f"{path}: holds no state dict but {contents}"
    assert "state_dict, model_state_dict, model" in error.remedy


def test_googlenet_with_its_auxiliary_heads_answers_as_in_torchvision(path):
    theirs = torchvision.models.googlenet(init_weights=True, num_classes=3, transform_input=True).eval()
    assert any(name.startswith("aux1.") for name in theirs.state_dict())
    torch.save(theirs.state_dict(), path)
    loaded = load_weights(path, arch="googlenet", labels=LABELS)
    picture = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(loaded.build()(picture), theirs(picture))


def test_batch_norm_counters_may_be_missing_and_come_back(path):
    state = random_weights(arch="mobilenet_v3_small")
    torch.save({name: tensor for name, tensor in state.items() if "num_batches" not in name}, path)
    loaded = load_weights(path, arch="mobilenet_v3_small", labels=LABELS)
    assert state_dict_sha256(loaded.state_dict) == state_dict_sha256(state)


def test_the_number_of_classes_is_read_from_the_head(path):
    torch.save(random_weights(num_classes=10), path)
    labels = tuple("abcdefghij")
    assert load_weights(path, arch=SMALL, labels=labels).build()(torch.rand(1, 3, 64, 64)).shape == (1, 10)
    unlabelled = refused(path, arch=SMALL)
    assert unlabelled.cause == f"{path}: has 10 classes, and does not say which"
    assert "--labels FILE" in unlabelled.remedy
    assert refused(path, arch=SMALL, labels=LABELS).cause == f"{path}: has 10 classes, but there are 3 labels"


def test_labels_with_control_characters_are_refused(path):
    torch.save(random_weights(), path)
    assert r"labels[1]: 'd\nog'" in refused(path, arch=SMALL, labels=("cat", "d\nog", "bird")).cause


def test_what_the_file_does_not_say_is_assumed_aloud(path):
    torch.save(random_weights(1000, arch="mobilenet_v2"), path)
    loaded = load_weights(path, arch="mobilenet_v2")
    first, second = published.pretrained("mobilenet_v2")
    assert loaded.preprocess == first.preprocess != second.preprocess
    assert loaded.labels == first.labels
    assert loaded.metrics == {}
    assert loaded.assumptions == (
        f"preprocess: that of {first.name}: {first.preprocess}; {second.name} has resize_size 232",
        "labels: ImageNet's 1,000 classes in torchvision's order",
    )
    told = load_weights(path, arch="mobilenet_v2", labels=first.labels, preprocess=second.preprocess)
    assert told.assumptions == ()
    assert told.preprocess == second.preprocess


@pytest.fixture
def as_published(path, monkeypatch):
    """A file that torchvision would have published, by its SHA-256, as the second of two."""
    torch.save(random_weights(1000), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    first = published.default_pretrained(SMALL)
    preprocess = first.preprocess.replace(resize_size=232)
    second = dataclasses.replace(first, name="S.V2", file_name=f"s-{digest[:8]}.pth", preprocess=preprocess)
    monkeypatch.setattr(published, "pretrained", lambda _arch: (first, second))
    return second


def test_a_published_file_is_known_by_its_hash(path, as_published):
    loaded = load_weights(path, arch=SMALL)
    assert (loaded.weights, loaded.preprocess) == ("S.V2", as_published.preprocess)
    assert (loaded.metrics, loaded.labels) == (as_published.metrics, as_published.labels)
    assert loaded.assumptions == ()


def test_published_accuracies_do_not_survive_another_preprocess(path, as_published):
    loaded = load_weights(path, arch=SMALL, preprocess=Preprocess(resize_size=200))
    assert (loaded.weights, loaded.preprocess.resize_size, loaded.metrics) == ("S.V2", 200, {})


def test_our_own_checkpoint_passes_too_and_what_is_given_wins(path, saved):
    assert load_weights(path, arch=SMALL).labels == LABELS
    given = load_weights(path, arch=SMALL, labels=("a", "b", "c"), preprocess=Preprocess())
    assert (given.labels, given.preprocess, given.thresholds) == (("a", "b", "c"), Preprocess(), (0.5, 0.25, 0.75))
    assert refused(path, arch=SMALL, labels=("a",)).cause == f"{path}: has 3 classes, but there are 1 labels"
    assert "labels[0]: '' is empty" in refused(path, arch=SMALL, labels=("", "b", "c")).cause
    other = refused(path, arch="alexnet")
    assert other.cause == f"{path}: is a checkpoint of squeezenet1_1, not of alexnet"


# --- weights that do not fit ---


def test_a_mismatch_names_three_of_each_kind_and_the_arch_that_fits(path):
    state = random_weights(num_classes=10, arch="mobilenet_v3_small")
    error = refused(path, state, arch="mobilenet_v3_large")
    kinds = error.cause.partition("mobilenet_v3_large: ")[2].split("; ")
    assert [kind.split(" (")[0].split(" ", 1)[1] for kind in kinds] == ["missing", "unexpected", "of another shape"]
    assert all(kind.endswith(" more)") for kind in kinds)
    assert error.remedy == "It fits mobilenet_v3_small."


def test_a_mismatch_is_told_in_full(path):
    state = random_weights()
    for name in list(state)[:5]:
        del state[name]
    state["spare"] = torch.ones(1)
    names = list(state)[:4]
    state |= {name: torch.ones(2, 5) for name in names}
    state[names[1]] = torch.tensor(1.0)
    expected = models.skeleton(SMALL).state_dict()
    missing = list(expected)[:3]
    shapes = ["x".join(map(str, expected[name].shape)) for name in names[:3]]
    start = time.monotonic()
    error = refused(path, state, arch=SMALL, labels=LABELS)
    assert time.monotonic() - start < 60  # 5 s on two quiet cores
    assert error.cause == (
        f"{path}: does not fit squeezenet1_1: 5 missing ({', '.join(missing)}, +2 more); 1 unexpected (spare); "
        f"4 of another shape ({names[0]} is 2x5, not {shapes[0]}, {names[1]} is a scalar, not {shapes[1]}, "
        f"{names[2]} is 2x5, not {shapes[2]}, +1 more)"
    )
    assert error.remedy == "It fits none of the architectures that `edgecls models --all` lists."


def test_archs_beyond_the_first_class_are_found_too(path):
    error = refused(path, random_weights(7, arch="shufflenet_v2_x0_5"), arch=SMALL)
    assert error.remedy == "It fits shufflenet_v2_x0_5."


def test_a_vision_transformer_for_another_picture_size_is_told_so(path):
    state = models.skeleton("vit_b_32", num_classes=3, image_size=384).state_dict()
    error = refused(path, dict(state), arch="vit_b_32", labels=LABELS)
    assert error.cause.endswith("1 of another shape (encoder.pos_embedding is 1x145x768, not 1x50x768)")
    assert error.remedy.startswith("A Vision Transformer fits one picture size: say with --preprocess which crop_size")
    right = refused(path, dict(state), arch="vit_b_32", labels=LABELS, preprocess=Preprocess(crop_size=(384, 384)))
    assert "(torch.strided, meta), not plain" in right.cause  # it fits, but for its values


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda tensor: tensor.fill_(float("nan")), "3 of 3 values are NaN or infinite"),
        (lambda tensor: torch.tensor([1.0, float("inf"), 2.0]), "1 of 3 values are NaN or infinite"),
        (lambda tensor: torch.tensor([1.0, float("-inf"), float("nan")]), "2 of 3 values are NaN or infinite"),
        (lambda tensor: torch.full((3,), 1e300, dtype=torch.float64), "3 of 3 values are NaN or infinite"),
        (lambda tensor: tensor.to(torch.int8), "holds torch.int8 (torch.strided, cpu), not plain torch.float32"),
        (lambda tensor: tensor.to("meta"), "(torch.strided, meta), not plain torch.float32"),
        (lambda tensor: tensor.to_sparse(), "(torch.sparse_coo, cpu), not plain torch.float32"),
    ],
)
@pytest.mark.parametrize("ours", [True, False])
def test_weights_that_are_no_numbers_are_refused_by_name(path, saved, spoil, message, ours):
    name = "classifier.1.bias"
    saved["state_dict"][name] = spoil(saved["state_dict"][name])
    document, options = (saved, {}) if ours else (saved["state_dict"], {"arch": SMALL, "labels": LABELS})
    error = refused(path, document, **options)
    assert error.cause.startswith(f"{path}: {name}: ")
    assert message in error.cause


# --- what a user names ---


def test_random_weights_say_so():
    one = resolve(SMALL, "none")
    default = published.default_pretrained(SMALL)
    assert (one.labels, one.preprocess, one.weights) == (default.labels, default.preprocess, "random")
    assert [text.partition(":")[0] for text in one.assumptions] == ["weights", "labels"]
    assert state_dict_sha256(one.state_dict) == state_dict_sha256(random_weights(1000))


def test_random_weights_have_as_many_classes_as_labels():
    one = resolve(SMALL, "none", labels=LABELS, preprocess=Preprocess(resize_size=70))
    assert one.build()(torch.rand(1, 3, 64, 64)).shape == (1, 3)
    assert (one.labels, one.preprocess.resize_size, len(one.assumptions)) == (LABELS, 70, 1)
    with pytest.raises(CheckpointError, match="there are no labels"):
        resolve(SMALL, "none", labels=())


@pytest.mark.parametrize("name", ["default", "IMAGENET1K_V2", "MobileNet_V2_Weights.IMAGENET1K_V2", "IMAGENET1K_V1"])
def test_published_weights_are_fetched_by_name(tmp_path, monkeypatch, name):
    fetched = []

    def fetch(weights, *, progress):
        fetched.append((weights.name, progress))
        torch.save(models.build("mobilenet_v2").state_dict(), tmp_path / weights.file_name)
        return tmp_path / weights.file_name

    monkeypatch.setattr(published, "fetch", fetch)
    one = resolve("mobilenet_v2", name, labels=published.pretrained("mobilenet_v2")[0].labels, progress=True)
    assert fetched == [(f"MobileNet_V2_Weights.{'IMAGENET1K_V1' if name.endswith('1') else 'IMAGENET1K_V2'}", True)]
    assert one.arch == "mobilenet_v2"


def test_any_other_name_is_a_file(path, saved):
    assert resolve(SMALL, str(path), labels=("a", "b", "c")).labels == ("a", "b", "c")
    with pytest.raises(CheckpointError, match="best2.pt: no such file"):
        resolve(SMALL, f"{path.parent}/best2.pt")


def test_an_unknown_arch_is_refused_before_the_file_is_read(path):
    with pytest.raises(ModelError):
        resolve("squeezenet9", str(path))
    with pytest.raises(ModelError):
        load_weights(path, arch="squeezenet9")


# --- the digest ---


def test_the_digest_is_over_names_dtypes_shapes_and_values():
    state = {"b": torch.tensor([[1.0, 2.0]]), "a": torch.tensor(7)}
    digest = state_dict_sha256(state)
    by_hand = hashlib.sha256(
        b'["a", "torch.int64", []]\n' + (7).to_bytes(8, "little")
        + b'["b", "torch.float32", [1, 2]]\n' + bytes.fromhex("0000803f00000040")
    )  # fmt: skip
    assert digest == by_hand.hexdigest()
    assert state_dict_sha256(dict(reversed(state.items()))) == digest
    assert state_dict_sha256(state | {"b": torch.tensor([[1.0, 9.0], [2.0, 9.0]])[:, 0].reshape(1, 2)}) == digest
    assert state_dict_sha256(state | {"b": torch.nn.Parameter(state["b"])}) == digest
    for other in (
        {"b": torch.tensor([[1.0, 2.5]])},
        {"b": torch.tensor([[1.0], [2.0]])},
        {"b": torch.tensor([[1.0, 2.0]]).view(torch.int32)},
        {"c": torch.tensor(7)},
    ):
        assert state_dict_sha256(state | other) != digest
    assert len(state_dict_sha256({"half": torch.ones(3, dtype=torch.bfloat16), "none": torch.ones(0)})) == 64


# --- the real thing ---


@pytest.mark.real_data
def test_the_real_mobilenet_loads_and_answers_as_in_torchvision(real_data):
    file = real_data / "weights" / "mobilenet_v2_imagenet.pth"
    loaded = load_weights(file, arch="mobilenet_v2")
    assert loaded.labels == tuple((real_data / "imagenet_classes.txt").read_text().splitlines())
    assert (loaded.weights, loaded.preprocess.resize_size) == ("mobilenet_v2_imagenet.pth", 256)
    assert len(loaded.assumptions) == 2
    theirs = torchvision.models.mobilenet_v2().eval()
    theirs.load_state_dict(torch.load(file, weights_only=True))
    picture = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        assert torch.equal(loaded.build()(picture), theirs(picture))


@pytest.mark.real_data
def test_the_real_mobilenet_under_another_name_is_told_apart(real_data):
    file = real_data / "weights" / "mobilenet_v2_imagenet.pth"
    error = refused(file, arch="mobilenet_v3_large")
    assert error.remedy == "It fits mobilenet_v2."
