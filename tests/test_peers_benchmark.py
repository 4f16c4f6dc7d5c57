"""What the peers benchmark does apart from the peers: turns, workers, ratios, tables."""

from __future__ import annotations

import itertools
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PEERS = ROOT / "benchmarks" / "peers"
STUB = """
import threading, time
print("what a library prints")
def load(files, threads, *, best, spin=0.0, fails_on=""):
    if files != {"fp32": "m.onnx"} or threads != 2:
        raise RuntimeError("not what was asked for")
    if best is None:
        raise ImportError("no such engine\\nmore about it")
    def top5(path):
        if path == fails_on:
            raise ValueError("cannot read it")
        if path == "the end":
            raise SystemExit(3)
        if spin:
            threading.Thread(target=run_on, args=(time.perf_counter() + spin,)).start()
        return [best, len(path)]
    return top5
def run_on(end):
    while time.perf_counter() < end:
        pass
"""


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make the benchmark's modules importable by their own names, as they are when it runs."""
    monkeypatch.syspath_prepend(str(PEERS))
    names = [path.stem for path in PEERS.glob("*.py")]
    assert not set(names) & set(sys.modules)
    yield
    for name in names:
        sys.modules.pop(name, None)


@pytest.fixture
def stub(peers: None, tmp_path: Path):
    from turns import Worker

    (tmp_path / "stub.py").write_text(STUB)
    made = []

    def start(**options: object) -> Worker:
        argument = {"files": {"fp32": "m.onnx"}, "threads": 2, "options": options}
        made.append(Worker(sys.executable, tmp_path / "stub.py", argument, tmp_path))
        return made[-1]

    yield start
    for worker in made:
        worker.close()
        assert worker._process.returncode is not None


def test_a_worker_loads_says_its_versions_and_answers(stub) -> None:
    worker = stub(best=7)
    worker.wait_until_loaded("first")
    assert worker.versions["numpy"]
    seconds, top5 = worker.ask("before", "a picture")
    assert 0 < seconds < 1
    assert top5 == [7, len("a picture")]  # not that of the picture before


def test_why_a_peer_cannot_be_measured_is_its_errors_first_line(stub) -> None:
    from environments import NotAvailableError

    with pytest.raises(NotAvailableError, match=r"^ImportError: no such engine$"):
        stub(best=None).wait_until_loaded("first")
    worker = stub(best=7, fails_on="bad")
    worker.wait_until_loaded("first")
    with pytest.raises(NotAvailableError, match="ValueError: cannot read it"):
        worker.ask("good", "bad")
    with pytest.raises(NotAvailableError, match="ended by itself"):
        worker.ask("good", "the end")


@pytest.mark.skipif(sys.platform != "linux", reason="nothing tells whether another process's threads run")
def test_a_turn_is_over_when_the_workers_threads_sleep(stub, peers: None) -> None:
    from turns import _runs

    worker = stub(best=7, spin=0.3)
    worker.wait_until_loaded("first")
    seconds, _ = worker.ask("before", "picture")
    assert seconds < 0.3  # what spins afterwards is not its time
    assert not _runs(worker.pid)
    assert worker.restless == 0


@pytest.mark.skipif(sys.platform != "linux", reason="nothing tells what others spend")
def test_what_others_spend_is_all_but_what_the_workers_and_this_process_spend(peers: None, tmp_path: Path) -> None:
    from turns import cpu_seconds_of_others

    tick = os.sysconf("SC_CLK_TCK")
    times = [500, 20, 30, 7000, 8000, 1, 2, 47, 500, 20]  # idle and waiting do not count, guests count as user already
    (tmp_path / "stat").write_text("cpu  " + " ".join(str(time * tick) for time in times) + "\ncpu0 1 2 3\n")
    for pid, user, system in ((11, 100, 20), (12, 30, 4)):
        (tmp_path / str(pid)).mkdir()
        fields = ["S", *("0" * 10), str(user * tick), str(system * tick), *("9" * 30)]
        (tmp_path / str(pid) / "stat").write_text(f"{pid} (a name (1)) " + " ".join(fields))
    others = cpu_seconds_of_others([11, 12], tmp_path)
    assert others == pytest.approx(600 - 154 - time.process_time(), abs=1)


def test_every_worker_sees_every_picture_in_each_round_and_who_fails_drops_out(stub) -> None:
    from turns import take_turns

    workers = {"one": stub(best=1), "two": stub(best=2), "three": stub(best=3, fails_on="b")}
    for worker in workers.values():
        worker.wait_until_loaded("first")
    seconds, top5, dropped = take_turns(workers, ["a", "b"], rounds=2)
    assert {key: [len(rounds) for rounds in times] for key, times in seconds.items()} == {"one": [2, 2], "two": [2, 2]}
    assert top5 == {"one": [[1, 1], [1, 1]], "two": [[2, 1], [2, 1]]}
    assert dropped == {"three": "ValueError: cannot read it"}


def test_nobody_always_follows_the_same_one(peers: None) -> None:
    from turns import _order

    orders = [list(_order(["a", "b", "c"], turn)) for turn in range(6)]
    assert all(sorted(order) == ["a", "b", "c"] for order in orders)
    assert {order[0] for order in orders} == {order[-1] for order in orders} == {"a", "b", "c"}
    assert {"ab", "ba"} <= {"".join(pair) for order in orders for pair in itertools.pairwise(order)}


def test_a_ratio_is_of_pairs_and_its_interval_holds_it(peers: None) -> None:
    from report import ratio

    ours = [[0.001 * (1 + picture % 7), 0.002] for picture in range(40)]  # a machine that halves its speed
    exact = ratio([[2 * time for time in times] for times in ours], ours)
    assert exact == {"ratio": pytest.approx(2), "low": pytest.approx(2), "high": pytest.approx(2)}
    spread = ratio([[time * (1.5 + picture / 40) for time in times] for picture, times in enumerate(ours)], ours)
    assert 1.5 < spread["low"] < spread["ratio"] < spread["high"] < 2.5


def test_agreement_counts_best_classes_and_fives_and_flags_other_work(peers: None) -> None:
    from report import agreement, disagreements

    ours = [[1, 2], [3, 4]]
    assert agreement(ours, [[1, 2], [4, 3]]) == {"top1": 0.5, "top5": 1.0}
    assert agreement(ours, [None, None]) is None
    row = {"peer": "x", "precision": "fp32", "same_pixels": True, "agreement": {"top1": 0.5, "top5": 1.0}}
    assert disagreements([row]) == ["x, FP32: the same best class on 50% of pictures"]
    assert not disagreements([row | {"same_pixels": False}, row | {"agreement": None}])
    assert disagreements([row | {"agreement": {"top1": 0.9, "top5": 1.0}}])
    assert not disagreements([row | {"precision": "int8", "agreement": {"top1": 0.9, "top5": 1.0}}])
    assert not disagreements([row | {"agreement": {"top1": 0.95, "top5": 1.0}}, {"not_available": "why"}])


def test_the_table_has_a_row_for_everybody_and_says_what_was_missed(peers: None) -> None:
    from catalogue import Peer
    from report import rows_of, table

    def peer(name: str, precision: str = "fp32", **least: float) -> Peer:
        return Peer(name=name, precision=precision, environment="e", worker="w", wanted={"photos": least})

    everyone = [
        *(peer("edgecls"), peer("edgecls", "int8")),
        *(peer("quick", fp32=2.0, int8=2.0), peer("alike", "int8", int8=1.0)),
        *(peer("absent", fp32=1.5), Peer(name="other pictures", environment="e", worker="w", wanted={"large": {}})),
    ]
    times = {"edgecls, FP32": 0.01, "edgecls, INT8": 0.005, "quick, FP32": 0.015, "alike, INT8": 0.005}
    seconds = {key: [[time], [time]] for key, time in times.items()}
    top5 = {key: [[1], [2]] for key in times}
    rows = rows_of("photos", everyone, seconds, top5, {"absent, FP32": "no wheel | for this\nmachine"})
    lines = table("photos", rows).splitlines()[2:]
    assert [line.split(" |")[0] for line in lines] == ["| edgecls", "| edgecls", "| quick", "| alike", "| absent"]
    assert re.search(r"15\.0 ms \| \*\*1\.50\*\* \(1\.50-1\.50\) \| \*\*3\.00\*\*.*\| FP32 at least 2\.00: \*\*missed\*\*; INT8 at least 2\.00 \| 100% \|", lines[2])  # fmt: skip  # noqa: E501
    assert "| 5.0 ms |  | **1.00** (1.00-1.00) | INT8 at least 1.00 |" in lines[3]  # nothing against FP32
    assert "not measured: no wheel / for this machine |" in lines[4]
    assert len({line.count("|") for line in lines}) == 1


def test_large_pictures_are_timed_against_the_quick_decode_and_answered_against_the_exact_one(peers: None) -> None:
    from catalogue import REFERENCES, Peer
    from report import rows_of, table

    quick = REFERENCES["large"]
    least = {"edgecls": {}, quick: {}, "other": {"fp32": 3.0, "int8": 0.5}}
    everyone = [
        Peer(name=name, environment="e", worker="w", wanted={"large": ratios}) for name, ratios in least.items()
    ]
    seconds = {"edgecls, FP32": [[0.04]], f"{quick}, FP32": [[0.01]], "other, FP32": [[0.05]]}
    top5 = {"edgecls, FP32": [[1], [2]], f"{quick}, FP32": [[1], [3]], "other, FP32": [[1], [2]]}
    text = table("large", rows_of("large", everyone, seconds, top5, {}))
    assert f"| times {quick} FP32 |" in text
    assert f"| {quick} | FP32 | 10.0 ms |  |  |  | 50% |" in text
    assert (
        "**5.00** (5.00-5.00) |  | FP32 at least 3.00; INT8 at least 0.50 (edgecls at most 2.00 times it): not" in text
    )
    del seconds[f"{quick}, FP32"]
    assert "FP32 at least 3.00: not measured" in table("large", rows_of("large", everyone, seconds, top5, {}))


def test_the_result_can_be_read_again_and_drawn(peers: None, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from catalogue import Peer
    from report import rows_of
    from run import write

    seconds = {"photos": {"edgecls, FP32": [[0.01, 0.0123456789]] * 2}, "large": {}}
    everyone = [Peer(name="edgecls", environment="e", worker="w")]
    report = {
        "schema": "edgecls.peers/1",
        "versions": {"runtime": {"numpy": "1", "onnxruntime": "2"}},
        "date": "2026-01-01",
        "machine": {"cpu": "c", "cpu_flags": ["avx2"], "logical_cores": 2},
        "models": {"fp32": "a.onnx", "int8": "b.onnx"},
        "threads": 2,
        "rounds": 2,
        "pictures": {"photos": 2, "large": 0},
        "sections": {"photos": rows_of("photos", everyone, seconds["photos"], {}, {}), "large": []},
        "cpus_used_by_others": {"photos": 0.02},
        "seconds": seconds,
    }
    write(report, tmp_path / "peers.json")
    assert "Not to be trusted" not in (tmp_path / "peers.md").read_text()
    write(report | {"cpus_used_by_others": {"photos": 0.02, "large": 0.5}}, tmp_path / "busy.json")
    assert "**Not to be trusted**: other programs kept 0.5 CPUs busy" in (tmp_path / "busy.md").read_text()
    found = json.loads((tmp_path / "peers.json").read_text())
    assert found["schema"] == "edgecls.peers/1"
    assert found["seconds"]["photos"]["edgecls, FP32"] == [[0.01, 0.012346]] * 2
    assert "| edgecls | FP32 | 11.2 ms |" in (tmp_path / "peers.md").read_text()
    assert "onnxruntime 2." in (tmp_path / "peers.md").read_text()
    assert (tmp_path / "peers.png").read_bytes().startswith(b"\x89PNG")


def test_every_peer_has_its_worker_and_its_environment_and_all_use_our_versions(peers: None) -> None:
    from catalogue import PEERS as EVERYONE
    from catalogue import REFERENCES

    assert len({peer.key for peer in EVERYONE}) == len(EVERYONE)
    names = {peer.name for peer in EVERYONE}
    assert set(REFERENCES.values()) <= names
    assert {peer.worker for peer in EVERYONE} == {path.stem for path in (PEERS / "workers").glob("*.py")}
    assert {peer.environment for peer in EVERYONE} == {path.stem for path in (PEERS / "requirements").glob("*.txt")}
    ours = pins(ROOT / "constraints.txt")
    for path in (PEERS / "requirements").glob("*.txt"):
        theirs = pins(path)
        for name in {"numpy", "pillow", "onnxruntime", "openvino", "torch", "torchvision", "onnx"} & set(theirs):
            assert theirs[name] == ours[name], f"{path.name}: {name}"


def pins(path: Path) -> dict[str, str]:
    """Read exact versions; anything else in the file is an error."""
    found = [
        re.fullmatch(r"([\w.-]+)==(\S+)", line) for line in path.read_text().splitlines() if line[:1] not in ("", "#")
    ]
    assert all(found), path
    return {match[1].lower().replace("_", "-"): match[2] for match in found if match}
