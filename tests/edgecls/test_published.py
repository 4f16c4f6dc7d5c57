from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import socket
import threading
import time

import pytest
import torch
import torchvision
from torchvision.transforms import InterpolationMode

from edgecls import models, published
from edgecls.weights import load_weights
from edgecls_runtime.errors import CheckpointError, ModelError

SMALL = "squeezenet1_1"


def test_every_published_classifier_is_described_from_torchvisions_metadata():
    for arch in models.arch_names():
        every = published.pretrained(arch)
        assert published.default_pretrained(arch) in every, arch
        for weights in every:
            source = torchvision.models.get_weight(weights.name)
            preset = source.transforms()
            assert weights.url == source.url
            assert weights.url.endswith("/" + weights.file_name)
            assert len(weights.labels) == 1000
            assert weights.metrics == source.meta["_metrics"]["ImageNet-1K"]
            assert 40 < weights.metrics["acc@1"] < weights.metrics["acc@5"] < 100
            assert weights.num_params == source.meta["num_params"]
            assert weights.preprocess.resize_size == preset.resize_size[0]
            assert weights.preprocess.crop_size == (preset.crop_size[0], preset.crop_size[0])
            assert weights.preprocess.interpolation == preset.interpolation.value
            assert list(weights.preprocess.mean) == list(preset.mean)
            assert list(weights.preprocess.std) == list(preset.std)
            assert len(weights.sha256_prefix) >= 8
            assert int(weights.sha256_prefix, 16)


def test_the_presets_that_differ_do_differ():
    first, second = published.pretrained("mobilenet_v2")
    assert (first.preprocess.resize_size, second.preprocess.resize_size) == (256, 232)
    assert second == published.default_pretrained("mobilenet_v2")
    assert second.name == "MobileNet_V2_Weights.IMAGENET1K_V2"
    assert first.file_name == "mobilenet_v2-b0353104.pth"
    assert first.sha256_prefix == "b0353104"
    assert published.default_pretrained("efficientnet_b0").preprocess.interpolation == "bicubic"
    assert str(second).startswith("MobileNet_V2_Weights.IMAGENET1K_V2: acc@1 72.154, acc@5 90.822, 3,504,872 param")
    assert "tench" not in repr(second)


def test_weights_without_accuracies_are_left_out():
    names = [weights.name for weights in torchvision.models.VGG16_Weights]
    assert "IMAGENET1K_FEATURES" in names
    assert [weights.name for weights in published.pretrained("vgg16")] == ["VGG16_Weights.IMAGENET1K_V1"]


@dataclasses.dataclass
class ImageClassification:
    """A preset as a future torchvision might have it."""

    resize_size: tuple[int, ...] = (256,)
    crop_size: tuple[int, ...] = (224,)
    interpolation: InterpolationMode = InterpolationMode.BILINEAR


class SemanticSegmentation(ImageClassification):
    pass


@pytest.mark.parametrize(
    "preset",
    [
        SemanticSegmentation(),
        ImageClassification(resize_size=(256, 256)),
        ImageClassification(crop_size=(224, 200)),
        ImageClassification(interpolation=InterpolationMode.LANCZOS),
    ],
)
def test_a_preset_that_cannot_be_said_is_refused(preset, monkeypatch):
    monkeypatch.setattr(torchvision.models.AlexNet_Weights.IMAGENET1K_V1.value, "transforms", lambda: preset)
    with pytest.raises(ModelError, match="AlexNet_Weights.IMAGENET1K_V1: its preset has no counterpart here"):
        published.pretrained("alexnet")


# --- downloads, from servers on this machine ---


@contextlib.contextmanager
def raw_server(answer, *, then_close):
    """Serve one connection: read a little, send bytes, and close or fall silent."""
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            with contextlib.suppress(OSError):
                connection = listener.accept()[0]
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)
                    if not then_close:
                        done.wait(60)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        done.set()
        listener.close()
        thread.join(10)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty torch hub folder of its own."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "hub" / "checkpoints"


def weights_file(arch=SMALL, num_classes=1000):
    buffer = io.BytesIO()
    torch.save(models.build(arch, num_classes=num_classes, seed=5).state_dict(), buffer)
    return buffer.getvalue()


def load(weights, **options):
    return load_weights(published.fetch(weights, **options), arch=SMALL, labels=weights.labels).build()


def on_server(base_url, content=b"weights", arch=SMALL):
    file_name = f"tiny-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    return dataclasses.replace(
        published.default_pretrained(arch), url=f"{base_url}/models/{file_name}", file_name=file_name
    )


def response(content, length=None):
    return b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % (length or len(content)) + content


def test_published_weights_are_downloaded_once_checked_and_loaded(hub, capsys):
    content = weights_file()
    with raw_server(response(content), then_close=True) as url:
        weights = on_server(url, content)
        model = load(weights)
    again = load(weights)  # the server is gone
    assert [path.name for path in hub.iterdir()] == [weights.file_name]
    expected = models.build(SMALL, seed=5).state_dict()
    assert not model.training
    for loaded in (model, again):
        assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.state_dict().items())
    assert capsys.readouterr() == ("", "")


def test_published_weights_of_another_arch_are_refused(hub):
    content = weights_file("shufflenet_v2_x0_5")
    refusal = pytest.raises(CheckpointError, match="does not fit squeezenet1_1")
    with raw_server(response(content), then_close=True) as url, refusal:
        load(on_server(url, content))


@pytest.mark.parametrize(
    ("answer", "then_close", "reason"),
    [
        (b"", False, "timed out"),  # accepts and never answers
        (b"HTTP/1.0 200 OK\r\nContent-Len", False, "timed out"),
        (response(b"weigh", length=7), False, "timed out"),  # half a file, then nothing
        (response(b"weigh", length=7), True, "invalid hash value"),
        (response(b"another file"), True, "invalid hash value"),
        (b"", True, "Remote end closed connection without response"),
        (b"SSH-2.0-OpenSSH\r\n", True, "SSH-2.0-OpenSSH"),
        (b"HTTP/1.0 404 Not Found\r\n\r\n", True, "HTTP Error 404: Not Found"),
    ],
)
def test_a_download_that_fails_says_what_to_fetch_and_where_to_put_it(hub, answer, then_close, reason):
    before = socket.getdefaulttimeout()
    with raw_server(answer, then_close=then_close) as url:
        weights = on_server(url)
        start = time.monotonic()
        with pytest.raises(CheckpointError) as caught:
            load(weights, timeout_s=0.3)
        assert time.monotonic() - start < 10
    assert caught.value.cause.startswith(f"{weights.url} cannot be downloaded: ")
    assert reason in caught.value.cause
    assert "\n" not in caught.value.cause
    assert f"put it into {hub}, or give `--weights FILE`, or `--weights none`" in caught.value.remedy
    assert list(hub.iterdir()) == []
    assert socket.getdefaulttimeout() == before


def test_a_server_that_is_not_there_is_a_checkpoint_error(hub):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
    with pytest.raises(CheckpointError, match="cannot be downloaded: .*refused"):
        published.fetch(on_server(url))


def test_a_cache_that_cannot_be_made_is_a_checkpoint_error(hub):
    hub.parent.parent.joinpath("hub").write_text("in the way")
    with pytest.raises(CheckpointError, match="cannot be downloaded: .*hub"):
        published.fetch(on_server("http://127.0.0.1:9"))


def test_a_cached_file_with_another_hash_is_refused(hub):
    weights = on_server("http://127.0.0.1:9")
    hub.mkdir(parents=True)
    hub.joinpath(weights.file_name).write_bytes(b"weight")
    with pytest.raises(CheckpointError) as caught:
        published.fetch(weights)
    found = hashlib.sha256(b"weight").hexdigest()[:8]
    assert f"{weights.file_name}: its SHA-256 starts with {found}, not {weights.sha256_prefix}" in caught.value.cause
    assert caught.value.remedy == "Delete it, so that it is downloaded again."


def test_the_timeout_holds_during_a_download_alone(hub, monkeypatch):
    seen = []

    def download(*_args, **_options):
        seen.append(socket.getdefaulttimeout())
        raise OSError("enough")

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    socket.setdefaulttimeout(77)
    try:
        with pytest.raises(CheckpointError):
            published.fetch(on_server("http://127.0.0.1:9"))
        assert socket.getdefaulttimeout() == 77
    finally:
        socket.setdefaulttimeout(None)
    assert seen == [published.TIMEOUT_S]


def test_a_cached_file_that_cannot_be_read_is_a_checkpoint_error(hub):
    weights = on_server("http://127.0.0.1:9")
    (hub / weights.file_name).mkdir(parents=True)  # in the place of a file
    with pytest.raises(CheckpointError, match=r"tiny-\w+\.pth: cannot be read: Is a directory"):
        published.fetch(weights)
