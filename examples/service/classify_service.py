"""A service that names what is in pictures, for systemd or by hand: it needs no more than the runtime.

    python classify_service.py model.onnx --socket /run/edgecls/classify.sock
    python classify_service.py model.onnx --folder /var/spool/pictures

With ``--socket`` a client connects, sends a picture's bytes and closes its sending side; it gets one line of JSON.
With ``--folder`` each picture in it is answered by a file beside it: ``photo.jpg`` by ``photo.jpg.json``.

What `systemd` is told goes to the socket that it names (sd_notify(3)), and nowhere where there is none:

* READY=1 once the golden outputs were computed; a machine that computes something else never gets there.
* WATCHDOG=1 each time that a drawn picture was answered as at the start, which a hanging engine does not do.
* RELOADING=1 on SIGHUP: the model's file is loaded anew. A bad one leaves the old one running.
* STOPPING=1 on SIGTERM: what is asked already is still answered.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import logging
import os
import signal
import socket
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgecls_runtime import Classifier, EdgeclsError, ImageError, verify
from edgecls_runtime.golden import draw_picture
from edgecls_runtime.output import whole_file
from edgecls_runtime.preprocess import IMAGE_SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

_log = logging.getLogger("edgecls.service")

LARGEST_PICTURE = 32 * 2**20
"""Bytes that one client may send."""
LARGEST_PIXELS = 24_000_000
"""Of a picture, once decoded: with transparency it takes 8 bytes each, and each worker has one."""
CLIENTS = 8
"""That may send at a time; others wait."""
CLIENT_TIMEOUT_S = 10.0
"""Of one client, to send its picture."""
TICK_S = 0.2
"""How long a signal may wait, and how often the folder is looked at."""


class Systemd:
    """The service manager's side: nothing happens where there is none."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address  # @: Linux's abstract namespace
        mine = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        microseconds = int(environment.get("WATCHDOG_USEC", "0")) if mine else 0
        # Half of what it waits for, as sd_watchdog_enabled(3) advises.
        self.heartbeat_s = microseconds / 2e6 if self._address and microseconds else None

    def tell(self, *lines: str) -> None:
        """Send a message, say ``READY=1``."""
        if self._address:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to:
                to.sendto("\n".join(lines).encode(), self._address)


class Service:
    """A classifier and whoever asks it."""

    def __init__(self, model: str, systemd: Systemd, *, threads: int | None = None, workers: int = 2) -> None:
        verify(model, threads=threads).require()
        self._model = model
        self._systemd = systemd
        self._classifier = Classifier.load(model, threads=threads, max_pixels=LARGEST_PIXELS)
        self._workers = ThreadPoolExecutor(workers, "answer")
        self._clients = ThreadPoolExecutor(CLIENTS, "client")  # beside the workers, which a slow one shall not hold
        self._stopping, self._reloading = threading.Event(), threading.Event()
        self._expected = self._classifier.predict(draw_picture(0))

    def stop(self, *_: object) -> None:
        """End after what is asked already (SIGTERM, SIGINT)."""
        self._stopping.set()

    def reload(self, *_: object) -> None:
        """Load the model's file anew (SIGHUP)."""
        self._reloading.set()

    def serve(self, jobs: Iterator[object]) -> None:
        """Go on until told to stop; each step of ``jobs`` takes what there is to do, or a moment.

        The heartbeat goes the way of every picture: through this loop, a worker, and the engine.
        """
        beat: Future[bool] | None = None
        due_s = time.monotonic()
        next(jobs)  # the socket is there before anybody is told so
        self._systemd.tell("READY=1", f"STATUS={self._classifier!r}")
        while not self._stopping.is_set():
            if beat is None and self._reloading.is_set():
                self._reload()
            if beat is None and self._systemd.heartbeat_s is not None and time.monotonic() >= due_s:
                beat = self._workers.submit(self._is_right)
            next(jobs)
            if beat is not None and beat.done():
                if beat.result():
                    self._systemd.tell("WATCHDOG=1")
                beat, due_s = None, time.monotonic() + (self._systemd.heartbeat_s or 0.0)
        self._systemd.tell("STOPPING=1")
        self._clients.shutdown()
        self._workers.shutdown()
        self._classifier.close()

    def answer(self, picture: bytearray | Path) -> dict[str, Any]:
        """Return what is in a picture, or why it cannot be said, as JSON's types."""
        try:
            found = self._classifier.predict(picture)
            return {"predictions": [dataclasses.asdict(item) for item in found], "error": None}
        except ImageError as error:
            return {"predictions": [], "error": str(error)}

    def sockets(self, path: Path) -> Generator[None, None, None]:
        """Answer the clients of a unix socket, several at a time."""
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(str(path))
            listener.listen()
            listener.settimeout(TICK_S)
            try:
                while True:
                    with contextlib.suppress(TimeoutError):
                        client, _ = listener.accept()
                        self._clients.submit(self._converse, client)
                    yield
            finally:
                path.unlink(missing_ok=True)

    def folder(self, folder: Path) -> Generator[None, None, None]:
        """Answer the pictures of a folder that have no answer yet; whoever writes them renames them into it."""
        while True:
            for path in sorted(folder.iterdir()):
                beside = path.with_name(f"{path.name}.json")
                is_new = path.is_file() and not path.name.startswith(".") and not beside.exists()  # no pipe, no folder
                if is_new and path.suffix.lower() in IMAGE_SUFFIXES:
                    answer = self._workers.submit(self.answer, path).result()
                    with whole_file(beside) as part:
                        part.write_text(_line(answer), "utf-8")
                    yield
            time.sleep(TICK_S)
            yield

    def _converse(self, client: socket.socket) -> None:
        with client:
            deadline_s = time.monotonic() + CLIENT_TIMEOUT_S
            try:
                content = bytearray()
                while len(content) <= LARGEST_PICTURE:
                    # Of the whole, not of each part: who sends a byte a second would hold a worker for ever.
                    client.settimeout(max(0.001, deadline_s - time.monotonic()))
                    if not (part := client.recv(1 << 16)):
                        break
                    content += part
                client.settimeout(CLIENT_TIMEOUT_S)
                answer = {"predictions": [], "error": f"over {LARGEST_PICTURE:,} bytes\nSend a smaller picture."}
                if len(content) <= LARGEST_PICTURE:
                    answer = self._workers.submit(self.answer, content).result()
                client.sendall(_line(answer).encode())
            except OSError as error:  # a client that went away, or fell silent
                _log.info("a client: %s", error)
            except EdgeclsError as error:  # the engine failed: the heartbeat finds out, too
                _log.error("%s", error)

    def _is_right(self) -> bool:
        found = self._classifier.predict(draw_picture(0))
        if found != self._expected:
            _log.error("the drawn picture is answered with %s instead of %s", found, self._expected)
        return found == self._expected

    def _reload(self) -> None:
        self._reloading.clear()
        self._systemd.tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            self._classifier.reload(self._model)
            self._expected = self._classifier.predict(draw_picture(0))
            _log.info("reloaded %s", self._model)
        except EdgeclsError as error:
            _log.error("%s goes on as it was: %s", self._model, error)
        self._systemd.tell("READY=1", f"STATUS={self._classifier!r}")


def _line(answer: Mapping[str, Any]) -> str:
    return json.dumps(answer) + "\n"  # in ASCII: a file's name may hold bytes that are no UTF-8


def main() -> None:
    """Run the service until it is told to stop."""
    parser = argparse.ArgumentParser(description="Name what is in pictures.")
    parser.add_argument("model")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--socket", type=Path, help="unix socket to listen on")
    source.add_argument("--folder", type=Path, help="folder of pictures to answer")
    parser.add_argument("--threads", type=int, help="CPU threads of one run")
    parser.add_argument("--workers", type=int, default=2, help="pictures at a time")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")  # the journal adds time and name
    try:
        service = Service(given.model, Systemd(os.environ), threads=given.threads, workers=given.workers)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, service.stop)
        signal.signal(signal.SIGHUP, service.reload)
        jobs = service.sockets(given.socket) if given.socket else service.folder(given.folder)
        with contextlib.closing(jobs):
            service.serve(jobs)
    except EdgeclsError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
