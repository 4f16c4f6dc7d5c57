"""The example of a service, with a stand-in for systemd's end of the notification socket."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

from edgecls_runtime import Classifier
from edgecls_runtime.golden import draw_picture

FOLDER = Path(__file__).parents[1] / "examples" / "service"

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no unix sockets here")


class Manager:
    """Reads what services tell, as systemd does."""

    def __init__(self, path: Path) -> None:
        self.told: list[str] = []
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.environment = {"NOTIFY_SOCKET": str(path)}

    def wait_for(self, line: str, within_s: float = 60) -> None:
        """Read messages until one says this."""
        end = time.monotonic() + within_s
        while True:
            self.socket.settimeout(max(0.01, end - time.monotonic()))
            lines = self.socket.recv(4096).decode().splitlines()
            self.told += lines
            if line in lines:
                return


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(tmp_path / "notify")
    yield manager
    manager.socket.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    running = []

    def start(*arguments: object, environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
        command = [sys.executable, str(FOLDER / "classify_service.py"), *map(str, arguments)]
        running.append(
            subprocess.Popen(command, env=os.environ | (environment or {}), stderr=subprocess.PIPE, text=True)
        )
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def service() -> ModuleType:
    spec = importlib.util.spec_from_file_location("classify_service", FOLDER / "classify_service.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["classify_service"] = module
    spec.loader.exec_module(module)
    return module


def ask(path: Path, content: bytes) -> Any:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(60)
        client.connect(str(path))
        client.sendall(content)
        client.shutdown(socket.SHUT_WR)
        return json.loads(client.makefile().readline())


def test_a_service_from_start_to_stop(
    models: Path, tmp_path: Path, manager: Manager, start: Callable[..., subprocess.Popen[str]]
) -> None:
    model, at = tmp_path / "model.onnx", tmp_path / "ask"
    shutil.copy(models / "tiny.onnx", model)
    at.write_text("left by one that was killed")
    process = start(model, "--socket", at, environment=manager.environment | {"WATCHDOG_USEC": "200000"})
    manager.wait_for("READY=1")
    assert any(line.startswith("STATUS=<Classifier ") for line in manager.told)
    manager.wait_for("WATCHDOG=1")
    manager.wait_for("WATCHDOG=1")

    Image.fromarray(draw_picture(1)).save(tmp_path / "photo.png")
    with Classifier.load(models / "tiny.onnx") as classifier:
        expected = [vars(item) for item in classifier.predict(tmp_path / "photo.png")]
    assert ask(at, (tmp_path / "photo.png").read_bytes()) == {"predictions": expected, "error": None}
    assert "starts with b'no picture'" in ask(at, b"no picture")["error"]
    assert "is empty" in ask(at, b"")["error"]

    model.write_bytes(b"no model")
    process.send_signal(signal.SIGHUP)
    manager.wait_for("RELOADING=1")
    manager.wait_for("READY=1")
    assert ask(at, (tmp_path / "photo.png").read_bytes())["predictions"] == expected
    shutil.copy(models / "multilabel.onnx", model)
    process.send_signal(signal.SIGHUP)
    manager.wait_for("READY=1")
    assert ask(at, (tmp_path / "photo.png").read_bytes())["predictions"] != expected
    manager.wait_for("WATCHDOG=1")

    process.send_signal(signal.SIGTERM)
    manager.wait_for("STOPPING=1")
    log = process.communicate(timeout=60)[1]
    assert process.returncode == 0
    assert not at.exists()
    assert "model.onnx goes on as it was: " in log
    assert f"reloaded {model}" in log
    assert "Traceback" not in log


def test_a_folder_is_answered(models: Path, tmp_path: Path, start: Callable[..., subprocess.Popen[str]]) -> None:
    folder = tmp_path / "spool"
    folder.mkdir()
    (folder / "bad.jpg").write_text("no picture")
    odd = os.fsencode(folder / "caf") + b"\xe9.jpg"
    with open(odd, "wb") as file:
        file.write(b"no picture")
    os.mkfifo(folder / "pipe.jpg")
    (folder / "notes.txt").write_text("no picture, and not called one")
    process = start(models / "tiny.onnx", "--folder", folder)  # by hand: no systemd
    Image.fromarray(draw_picture(1)).save(tmp_path / "photo.png")
    (tmp_path / "photo.png").rename(folder / "photo.png")
    end = time.monotonic() + 60
    while not (folder / "photo.png.json").exists() and time.monotonic() < end:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 0
    names = sorted(path.name for path in folder.iterdir())
    assert names == [
        "bad.jpg", "bad.jpg.json", "caf\udce9.jpg", "caf\udce9.jpg.json",
        "notes.txt", "photo.png", "photo.png.json", "pipe.jpg",
    ]  # fmt: skip
    assert json.loads((folder / "bad.jpg.json").read_text())["error"].startswith(f"{folder / 'bad.jpg'}: is not")
    assert json.loads((folder / "photo.png.json").read_text())["predictions"][0]["label"]


def test_a_machine_that_computes_something_else_never_gets_ready(
    models: Path, tmp_path: Path, manager: Manager, start: Callable[..., subprocess.Popen[str]]
) -> None:
    content = bytearray((models / "tiny.onnx").read_bytes())
    content[len(content) // 3] ^= 0x40
    (tmp_path / "m.onnx").write_bytes(content)
    process = start(tmp_path / "m.onnx", "--socket", tmp_path / "ask", environment=manager.environment)
    log = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    assert log.startswith(f"error: {tmp_path / 'm.onnx'}: graph: nodes and weights are not those of the export")
    with pytest.raises(TimeoutError):
        manager.wait_for("READY=1", within_s=0.01)


@pytest.mark.parametrize("way", ["hangs", "answers otherwise"])
def test_the_heartbeat_stops_where_the_engine(
    models: Path, manager: Manager, service: ModuleType, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    systemd = service.Systemd(manager.environment | {"WATCHDOG_USEC": "20000"})
    assert systemd.heartbeat_s == 0.01
    running = service.Service(str(models / "tiny.onnx"), systemd)

    def jobs() -> Iterator[None]:
        while True:
            time.sleep(0.002)
            yield

    thread = threading.Thread(target=running.serve, args=[jobs()])
    thread.start()
    manager.wait_for("WATCHDOG=1")
    release = threading.Event()
    right = running._classifier.predict

    def wrong(*arguments: object) -> object:
        if way == "hangs":
            release.wait(60)
        return right(*arguments)[::-1]

    monkeypatch.setattr(running._classifier, "predict", wrong)
    with pytest.raises(TimeoutError):
        for _ in range(20):  # one may be on its way
            manager.wait_for("WATCHDOG=1", within_s=0.5)
    running.stop()
    release.set()
    thread.join(60)
    assert not thread.is_alive()


def test_what_systemd_does_not_say_is_not_heeded(service: ModuleType, tmp_path: Path) -> None:
    service.Systemd({}).tell("READY=1")
    assert service.Systemd({"WATCHDOG_USEC": "1000"}).heartbeat_s is None  # nobody to tell
    others = {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}
    assert service.Systemd(others).heartbeat_s is None
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as abstract:
        abstract.bind("\0edgecls-test-" + str(os.getpid()))
        abstract.settimeout(10)
        service.Systemd({"NOTIFY_SOCKET": f"@edgecls-test-{os.getpid()}"}).tell("READY=1", "STATUS=here")
        assert abstract.recv(100) == b"READY=1\nSTATUS=here"


def test_a_client_cannot_fill_the_memory(
    models: Path, tmp_path: Path, service: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "LARGEST_PICTURE", 1000)
    running = service.Service(str(models / "tiny.onnx"), service.Systemd({}))
    ours, theirs = socket.socketpair()
    with ours:
        ours.sendall(bytes(5000))
        running._converse(theirs)
        assert json.loads(ours.makefile().readline())["error"] == "over 1,000 bytes\nSend a smaller picture."
    running._classifier.close()


def test_slow_clients_do_not_hold_up_the_heartbeat(
    models: Path, tmp_path: Path, manager: Manager, start: Callable[..., subprocess.Popen[str]]
) -> None:
    at = tmp_path / "ask"
    start(models / "tiny.onnx", "--socket", at, environment=manager.environment | {"WATCHDOG_USEC": "200000"})
    manager.wait_for("READY=1")
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            client = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            client.connect(str(at))
            client.sendall(b"a")
        time.sleep(0.5)
        manager.wait_for("WATCHDOG=1", within_s=5)
        for _ in range(5):
            manager.wait_for("WATCHDOG=1", within_s=5)


def test_a_client_has_a_time_for_the_whole(
    models: Path, service: ModuleType, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(service, "CLIENT_TIMEOUT_S", 0.5)
    running = service.Service(str(models / "tiny.onnx"), service.Systemd({}))
    ours, theirs = socket.socketpair()
    caplog.set_level("INFO")
    with ours:
        conversation = threading.Thread(target=running._converse, args=(theirs,))
        conversation.start()
        end = time.monotonic() + 10
        while conversation.is_alive() and time.monotonic() < end:
            time.sleep(0.1)  # less than the timeout
            with contextlib.suppress(OSError):
                ours.sendall(b"a")
        assert not conversation.is_alive()
    assert "a client: timed out" in caplog.text
    running._classifier.close()


def test_the_unit_starts_what_is_there(tmp_path: Path) -> None:
    unit = (FOLDER / "edgecls.service").read_text()
    (start,) = [line for line in unit.splitlines() if line.startswith("ExecStart=")]
    for option in ("--socket", "--threads"):
        assert option in start
        assert f'"{option}"' in (FOLDER / "classify_service.py").read_text()
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    here = unit.replace("/opt/edgecls/venv/bin/python", sys.executable)
    (tmp_path / "edgecls.service").write_text(here)
    done = subprocess.run(
        [analyze, "verify", tmp_path / "edgecls.service"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
