"""Worker processes, and the turns that they take."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from environments import NotAvailableError, variables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from catalogue import Peer

HERE = Path(__file__).parent
LOAD_SECONDS = 600  # torch.compile with max-autotune and nothing in its cache
ANSWER_SECONDS = 60
WARM_UP = 3  # turns; compilers look at the first pictures
REST_SECONDS = 1.0


class Worker:
    """A peer in its process, which sleeps unless it is asked."""

    def __init__(self, python: Path | str, module: Path, argument: dict, folder: Path) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            [str(python), str(HERE / "worker.py"), str(module), json.dumps(argument)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=variables(folder),
        )
        self._read = b""
        self.restless = 0
        self.versions: dict[str, str] = {}

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_until_loaded(self, picture: str) -> None:
        """Raise `NotAvailableError` with the reason if it cannot load, or cannot answer a picture."""
        self.versions = self._answer(LOAD_SECONDS)["versions"]
        for _ in range(WARM_UP):
            self.ask(picture, picture, LOAD_SECONDS)

    def ask(self, before: str, picture: str, within: float = ANSWER_SECONDS) -> tuple[float, list[int] | None]:
        """Return the seconds that a picture took and its five best classes, once all its threads sleep again."""
        assert self._process.stdin
        try:
            self._process.stdin.write(json.dumps({"before": before, "picture": picture}).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise NotAvailableError(f"ended by itself: {self._last_words()}") from None
        answer = self._answer(within)
        self._let_rest()
        return answer["seconds"], answer["top5"]

    def close(self) -> None:
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()

    def _answer(self, seconds: float) -> dict:
        end = time.monotonic() + seconds
        while b"\n" not in self._read:
            ready, _, _ = select.select([self._process.stdout], [], [], max(0, end - time.monotonic()))
            if not ready:
                raise NotAvailableError(f"no answer within {seconds:.0f} s")
            more = os.read(self._process.stdout.fileno(), 1 << 20)
            if not more:
                raise NotAvailableError(f"ended by itself: {self._last_words()}")
            self._read += more
        line, _, self._read = self._read.partition(b"\n")
        answer = json.loads(line)
        if "error" in answer:
            raise NotAvailableError(answer["error"])
        return answer

    def _last_words(self) -> str:
        self._process.wait(5)
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), f"status {self._process.returncode}")

    def _let_rest(self) -> None:
        """Wait until its threads sleep: ONNX Runtime's and OpenMP's spin on after a run, at the next one's cost."""
        end = time.monotonic() + REST_SECONDS
        quiet = 0
        while quiet < 2:
            quiet = 0 if _runs(self.pid) else quiet + 1
            time.sleep(0.001)
            if time.monotonic() > end:
                self.restless += 1
                return


def start(peer: Peer, python: Path, files: dict[str, str], threads: int, folder: Path, picture: str) -> Worker:
    """Return the peer, loaded and warmed up with a picture."""
    argument = {"files": files, "threads": threads, "options": peer.options}
    worker = Worker(python, HERE / "workers" / f"{peer.worker}.py", argument, folder)
    try:
        worker.wait_until_loaded(picture)
    except BaseException:
        worker.close()
        raise
    return worker


def take_turns(
    workers: dict[str, Worker], pictures: list[str], rounds: int, progress: Callable[[], object] = lambda: None
) -> tuple[dict[str, list[list[float]]], dict[str, list[list[int] | None]], dict[str, str]]:
    """Show every picture to every worker, one at a time, in an order that turns.

    Returns:
        Of each worker seconds [picture][round] and the five best classes [picture]; and why some dropped out.
    """
    seconds: dict[str, list[list[float]]] = {key: [[] for _ in pictures] for key in workers}
    top5: dict[str, list[list[int] | None]] = {key: [] for key in workers}
    dropped: dict[str, str] = {}
    for number in range(rounds):
        for index, picture in enumerate(pictures):
            for key in _order(list(workers), number * len(pictures) + index):
                if key in dropped:
                    continue
                try:
                    taken, best = workers[key].ask(pictures[index - 1], picture)
                except NotAvailableError as reason:
                    dropped[key] = str(reason)
                    del seconds[key], top5[key]
                    continue
                seconds[key][index].append(taken)
                if number == 0:
                    top5[key].append(best)
            progress()
    return seconds, top5, dropped


def cpu_seconds_of_others(pids: Iterable[int], proc: Path = Path("/proc")) -> float | None:
    """Return the CPU time that this machine has spent so far on others than this process and those; None if unknown."""
    if sys.platform != "linux":
        return None
    tick = os.sysconf("SC_CLK_TCK")
    # user, nice, system, idle, iowait, irq, softirq, steal: all but idle and iowait.
    times = [int(word) for word in (proc / "stat").read_text().split("\n", 1)[0].split()[1:9]]
    ours = time.process_time()
    for pid in pids:
        user, system = (proc / str(pid) / "stat").read_text().rpartition(")")[2].split()[11:13]
        ours += (int(user) + int(system)) / tick
    return (sum(times) - times[3] - times[4]) / tick - ours


def _order(keys: list[str], turn: int) -> Iterator[str]:
    """Yield everyone once, from another one each turn, and backwards every other time."""
    start = turn % len(keys) if keys else 0
    turned = keys[start:] + keys[:start]
    return iter(turned[::-1] if turn % 2 else turned)


def _runs(pid: int) -> bool:
    """Say whether a thread of a process is computing, or waiting for a CPU to do so."""
    if sys.platform != "linux":
        time.sleep(0.05)  # nothing tells; ONNX Runtime spins for about so long
        return False
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            # The state stands behind the name, which is in brackets and may hold brackets itself.
            if (task / "stat").read_text().rpartition(")")[2].split()[0] == "R":
                return True
        except (FileNotFoundError, ProcessLookupError):
            continue
    return False
