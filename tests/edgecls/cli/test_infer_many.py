from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from edgecls.cli import pictures as pictures_module
from edgecls.cli.pictures import Pictures
from edgecls.cli.results_file import ResultsFile
from edgecls_runtime import Classifier
from edgecls_runtime.errors import OutputError
from edgecls_runtime.golden import draw_picture

Run = Callable[..., subprocess.CompletedProcess[str]]
Refused = Callable[[subprocess.CompletedProcess[str], str, str], None]


@pytest.fixture(scope="module")
def drawn() -> list[bytes]:
    """Small pictures as PNG files."""
    files = [io.BytesIO() for _ in range(7)]
    for number, file in enumerate(files):
        Image.fromarray(draw_picture(number)).resize((40, 40)).save(file, "PNG")
    return [file.getvalue() for file in files]


@pytest.fixture
def folder(tmp_path: Path, drawn: list[bytes]) -> Path:
    """A folder of 30 small pictures, one of them bad, in the order of their paths."""
    folder = tmp_path / "photos"
    for number in range(30):
        path = folder / f"{number // 10}" / f"{number % 10}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(drawn[number % 7])
    (folder / "1" / "5.png").write_text("no picture")
    return folder


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def answers(path: Path) -> list[dict[str, Any]]:
    return [record for record in lines(path) if "image" in record]


# What a folder holds


def test_the_order_is_that_of_the_sorted_paths(tmp_path: Path) -> None:
    for name in ("b/x.png", "b-c/x.png", "b.png", "b/a/y.jpg", "B.png", "a.png", "b/a.png", "é.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = list(Pictures([str(tmp_path)]))
    assert found == sorted(str(path) for path in tmp_path.rglob("*") if path.is_file())
    assert len(found) == 8


@pytest.mark.parametrize("at_once", [1, 2, 3, 1000])
def test_a_folder_too_large_for_memory_is_read_in_several_passes(
    folder: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    (folder / "notes.txt").touch()
    whole = Pictures([str(folder)])
    expected = list(whole)
    monkeypatch.setattr(pictures_module, "_NAMES_AT_ONCE", at_once)
    pictures = Pictures([str(folder)])
    assert list(pictures) == expected
    assert (pictures.found, pictures.passed_over) == (whole.found, whole.passed_over) == (30, 1)


def test_folders_are_walked_no_further_than_needed(folder: Path) -> None:
    pictures = Pictures([str(folder)])
    walk = iter(pictures)
    next(walk)
    shutil.rmtree(folder / "2")  # not looked at yet
    assert len(list(walk)) == 19
    assert pictures.found == 20
    assert pictures.count() == 20


def test_links_to_pictures_and_to_folders_are_followed_but_not_in_circles(folder: Path, tmp_path: Path) -> None:
    before = list(Pictures([str(folder)]))
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(folder / "0" / "0.png", tmp_path / "elsewhere" / "far.png")
    (tmp_path / "elsewhere" / "back").symlink_to(folder)
    (folder / "0" / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "loop").symlink_to(folder)
    (folder / "link.png").symlink_to(folder / "0" / "0.png")
    (folder / "dangling.png").symlink_to(folder / "none.png")
    pictures = Pictures([str(folder)])
    assert set(pictures) - set(before) == {str(folder / "link.png"), str(folder / "0" / "linked" / "far.png")}
    assert pictures.found == pictures.count() == len(before) + 2


def test_a_folder_that_cannot_be_read_is_named_and_fails_the_run(
    in_process: Run, models: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def scan(path: str) -> Any:
        if path.endswith("photos/1/"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", scan)
    done = in_process("infer", "--engine", models / "tiny.onnx", "photos", "--format", "jsonl")
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 20
    assert done.stderr == "error: photos/1: the folder cannot be read: Permission denied\n"


def test_names_that_the_system_refuses_fail_alone(in_process: Run, models: Path, folder: Path) -> None:
    long = f"{'n' * 300}.png"
    (folder / "0" / "5.loop.png").symlink_to("5.loop.png")
    done = in_process("infer", "--engine", models / "tiny.onnx", "photos/0", long, "--format", "jsonl")
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, len(records)) == (1, 12)
    assert [record["image"] for record in records if record["error"]] == ["photos/0/5.loop.png", long]


@pytest.mark.parametrize("count", [1, 2, 3, 16])
def test_shards_are_disjoint_and_together_all_wherever_the_folder_lies(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    everything = list(Pictures([str(folder)]))
    shards = [list(Pictures([str(folder)], shard=(number, count))) for number in range(1, count + 1)]
    assert sorted(path for shard in shards for path in shard) == everything
    assert [Pictures([str(folder)], shard=(number, count)).count() for number in range(1, count + 1)] == [
        len(shard) for shard in shards
    ]
    # The same pictures elsewhere, named otherwise, and with a picture more: each stays in its shard.
    shutil.copytree(folder, tmp_path / "elsewhere" / "deep")
    (tmp_path / "elsewhere" / "deep" / "0" / "00.png").touch()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for number, shard in enumerate(shards, start=1):
        again = [path for path in Pictures(["deep"], shard=(number, count)) if path != "deep/0/00.png"]
        assert again == [path.replace(str(folder), "deep") for path in shard]


def test_shards_of_any_names() -> None:
    hypothesis = pytest.importorskip("hypothesis", reason="hypothesis is not installed")

    @hypothesis.settings(max_examples=30, deadline=None)
    @hypothesis.given(
        hypothesis.strategies.lists(hypothesis.strategies.text("aé/.0-", min_size=1), unique=True),
        hypothesis.strategies.integers(1, 40),
    )
    def union(names: list[str], count: int) -> None:
        names = [f"none/{name}" for name in names]  # names of nothing stay as they are
        shards = [list(Pictures(names, shard=(number, count))) for number in range(1, count + 1)]
        assert sorted(path for shard in shards for path in shard) == sorted(names)

    union()


def test_the_hash_is_the_same_for_ever() -> None:
    """Machines with different versions must agree on the shards."""
    assert pictures_module.stable_hash("photos/0.png") == int.from_bytes(bytes.fromhex(HASH), "big")


HASH = "ec7b7de1aefe4993"


# Answers


@pytest.mark.parametrize("more", [[], ["--workers", 3, "--batch-size", 4], ["--threads", 2]])
def test_a_folder_is_answered_in_order_as_one_by_one(
    in_process: Run, models: Path, folder: Path, more: list[object]
) -> None:
    done = in_process("infer", "--engine", models / "tiny.onnx", "photos", "--format", "jsonl", *more)
    assert done.returncode == 1
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["image"] for record in records] == [f"photos/{n // 10}/{n % 10}.png" for n in range(30)]
    tiny = Classifier.load(models / "tiny.onnx")
    for number, record in enumerate(records):
        if number == 15:
            assert record["error"].startswith("photos/1/5.png: is not a picture of a kind that is read")
            continue
        expected = tiny.predict(folder.parent / record["image"])
        assert [item["index"] for item in record["predictions"]] == [item.index for item in expected]
        assert [item["score"] for item in record["predictions"]] == pytest.approx(
            [item.score for item in expected], rel=1e-5
        )
    assert done.stderr == "error: 1 of 30 pictures failed\n"


def test_json_of_no_pictures_is_a_list(in_process: Run, models: Path, folder: Path) -> None:
    number = next(n for n in range(1, 400) if not list(Pictures([str(folder)], shard=(n, 400))))
    done = in_process(
        "infer", "--engine", models / "tiny.onnx", "photos", "--format", "json", "--shard", f"{number}/400"
    )
    assert (done.returncode, json.loads(done.stdout)) == (0, [])
    assert done.stderr == "note: none of 30 pictures falls into this shard\n"


def test_standard_input_among_others(edgecls: Run, models: Path, folder: Path) -> None:
    image = (folder / "0" / "3.png").read_bytes()
    done = edgecls("infer", "--engine", models / "tiny.onnx", "photos/0", "-", "--format", "jsonl", stdin=image)
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["image"] for record in records][-2:] == ["photos/0/9.png", "-"]
    assert records[-1]["predictions"] == records[3]["predictions"]


def test_one_picture_loads_nothing_that_many_need(models: Path, folder: Path) -> None:
    code = (
        "import sys\n"
        "from edgecls.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    print(*sys.modules)\n"
    )

    def loaded(image: Path) -> set[str]:
        arguments = [sys.executable, "-c", code, "infer", "--engine", str(models / "tiny.onnx"), str(image)]
        return set(subprocess.run(arguments, capture_output=True, text=True, check=True).stdout.split())

    many = {"edgecls_runtime.stream", "edgecls_runtime.parallel", "concurrent.futures"}
    assert many.isdisjoint(loaded(folder / "0" / "0.png"))
    assert many <= loaded(folder / "0")


# The file of results


def test_output_holds_header_answers_and_summary(in_process: Run, models: Path, folder: Path) -> None:
    out = folder.parent / "out.jsonl"
    done = in_process("infer", "--engine", models / "tiny.onnx", "photos", "--output", out, "--top-k", 2)
    assert (done.returncode, done.stdout) == (1, f"{out}: 30 pictures, 30 of them now\n")
    header, *records, summary = lines(out)
    assert header["edgecls_results"] == 1
    assert header["model"] == str(models / "tiny.onnx")
    assert len(header["model_sha256"]) == 64
    assert (header["options"]["top_k"], header["options"]["images"]) == (2, ["photos"])
    assert summary == {"summary": {"pictures": 30, "failed": 1}}
    printed = in_process("infer", "--engine", models / "tiny.onnx", "photos", "--format", "jsonl", "--top-k", 2)
    assert [json.loads(line) for line in printed.stdout.splitlines()] == records


def test_output_as_csv(in_process: Run, models: Path, folder: Path) -> None:
    arguments = ("infer", "--engine", models / "tiny.onnx", "photos")
    in_process(*arguments, "--output", "out.csv")
    text = (folder.parent / "out.csv").read_text("utf-8")
    assert text == in_process(*arguments, "--format", "csv").stdout
    assert len({row["image"] for row in csv.DictReader(text.splitlines())}) == 30


def test_resume_answers_what_is_left_and_says_what_it_drops(in_process: Run, models: Path, folder: Path) -> None:
    arguments = ("infer", "--engine", models / "tiny.onnx", "photos", "--output", "out.jsonl")
    out = folder.parent / "out.jsonl"
    in_process(*arguments, "--resume")  # begins where there is nothing to go on with
    whole = out.read_bytes()
    starts = [position + 1 for position, byte in enumerate(whole) if byte == ord("\n")]

    for cut in (0, 10, starts[0], starts[0] + 1, starts[12], starts[20] - 1, starts[29] + 5, starts[30] + 3):
        out.write_bytes(whole[:cut])
        done = in_process(*arguments, "--resume")
        assert (done.returncode, out.read_bytes()) == (1, whole), cut  # the bad picture stays a failure
        torn = cut not in (0, *starts)
        assert ("note: out.jsonl: its last line is torn" in done.stderr) is torn, cut
        assert done.stderr.endswith("error: 1 of 30 pictures failed\n")

    done = in_process(*arguments, "--resume")
    assert (done.stdout, out.read_bytes()) == ("out.jsonl: 30 pictures, 0 of them now\n", whole)

    shutil.copy(folder / "0" / "0.png", folder / "0" / "new.png")
    in_process(*arguments, "--resume")
    assert out.read_bytes().startswith(whole)
    assert [record.get("image") for record in lines(out)[-2:]] == ["photos/0/new.png", None]
    assert lines(out)[-1] == {"summary": {"pictures": 31, "failed": 1}}


def test_resume_answers_a_picture_as_often_as_it_is_named(in_process: Run, models: Path, folder: Path) -> None:
    arguments = ("infer", "--engine", models / "tiny.onnx", *["photos/0/1.png"] * 3, "--output", "out.jsonl")
    out = folder.parent / "out.jsonl"
    in_process(*arguments)
    whole = out.read_bytes()
    out.write_bytes(b"".join(whole.splitlines(keepends=True)[:2]))
    assert in_process(*arguments, "--resume").stdout == "out.jsonl: 3 pictures, 2 of them now\n"
    assert out.read_bytes() == whole


def test_resume_refuses_what_another_model_or_other_options_made(
    in_process: Run, refused: Refused, models: Path, folder: Path
) -> None:
    arguments = ("infer", "--output", "out.jsonl", "--engine")
    in_process(*arguments, models / "tiny.onnx", "photos")
    before = (folder.parent / "out.jsonl").read_bytes()
    remedy = "Continue it with the same model and options"
    for more, cause in [
        ([models / "multilabel.onnx", "photos"], "was made with model_sha256"),
        ([models / "tiny.onnx", "photos", "--top-k", 1], "was made with top_k 5, this is 1"),
        ([models / "tiny.onnx", "photos", "--shard", "1/2"], 'was made with shard null, this is "1/2"'),
        ([models / "tiny.onnx", "photos/0"], 'was made with images ["photos"], this is ["photos/0"]'),
        ([models / "tiny.onnx", "photos", "--max-pixels", 50], "was made with max_pixels 89478485, this is 50"),
        ([models / "tiny.onnx", "photos", "--decode", "fast"], 'was made with decode "exact", this is "fast"'),
    ]:
        refused(in_process(*arguments, *more, "--resume"), cause, remedy)
    in_process(*arguments, models / "tiny.onnx", "photos", "--resume", "--workers", 1, "--batch-size", 2)
    assert (folder.parent / "out.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("content", "cause", "remedy"),
    [
        (b'{"image": "a.png"}\n', "does not begin with what made it", "can be; choose another"),
        (b"no json\n", "line 1 is not JSON (b'no json\\n')", "It is damaged"),
        (b"[]\n", "line 1 is no record", "It is damaged"),
    ],
)
def test_resume_refuses_what_is_no_such_file(
    in_process: Run, refused: Refused, models: Path, folder: Path, content: bytes, cause: str, remedy: str
) -> None:
    out = folder.parent / "out.jsonl"
    out.write_bytes(content)
    refused(
        in_process("infer", "--engine", models / "tiny.onnx", "photos", "--output", "out.jsonl", "--resume"),
        cause,
        remedy,
    )
    assert out.read_bytes() == content


def test_damage_within_a_file_is_found(in_process: Run, refused: Refused, models: Path, folder: Path) -> None:
    arguments = ("infer", "--engine", models / "tiny.onnx", "photos", "--output", "out.jsonl")
    in_process(*arguments)
    out = folder.parent / "out.jsonl"
    out.write_bytes(out.read_bytes().replace(b'{"image": "photos/0/4.png"', b"\0\0\0"))
    refused(in_process(*arguments, "--resume"), "out.jsonl: line 6 is not JSON", "It is damaged")


def test_an_existing_file_stays_unless_forced(in_process: Run, refused: Refused, models: Path, folder: Path) -> None:
    out = folder.parent / "out.jsonl"
    out.write_text("mine\n")
    arguments = ("infer", "--engine", models / "tiny.onnx", "photos/0", "--output", "out.jsonl")
    refused(in_process(*arguments), "out.jsonl: exists already", "--force")
    assert out.read_text() == "mine\n"
    without_model = ("infer", "--engine", "none.onnx", "photos/0", "--output", "out.jsonl")
    refused(in_process(*without_model), "out.jsonl: exists already", "--force")  # before the model is loaded
    assert in_process(*arguments, "--force").returncode == 0
    assert len(answers(out)) == 10


def test_a_file_that_another_process_writes_is_left_alone(
    in_process: Run, refused: Refused, models: Path, folder: Path
) -> None:
    fcntl = pytest.importorskip("fcntl", reason="this system has no such locks")
    arguments = ("infer", "--engine", models / "tiny.onnx", "photos/0", "--output", "out.jsonl")
    in_process(*arguments)
    with (folder.parent / "out.jsonl").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        refused(in_process(*arguments, "--resume"), "out.jsonl: another process writes to it", "Wait for that one")


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_a_disk_that_takes_no_more_is_named(
    in_process: Run, refused: Refused, models: Path, folder: Path, suffix: str
) -> None:
    resource = pytest.importorskip("resource", reason="this system limits no files")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        done = in_process("infer", "--engine", models / "tiny.onnx", "photos/0", "--output", f"out.{suffix}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    refused(done, f"out.{suffix}: cannot be written: File too large", "Choose another --output.")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize(("header", "how"), [({}, "go on with --resume"), (None, "begin anew with --force")])
def test_a_full_disk_says_how_to_go_on(tmp_path: Path, header: dict[str, Any] | None, how: str) -> None:
    with (
        pytest.raises(OutputError, match=f"out: the disk is full\nFree some space, then {how}."),
        Path("/dev/full").open("wb") as full,
        ResultsFile(tmp_path / "out", header) as results,
    ):
        os.dup2(full.fileno(), results._file.fileno())
        results.write("an answer")


def test_a_bad_model_leaves_no_file(in_process: Run, models: Path, folder: Path) -> None:
    done = in_process("infer", "--engine", models / "two_inputs.onnx", "photos", "--output", "out.jsonl")
    assert done.returncode == 1
    assert not (folder.parent / "out.jsonl").exists()


def test_names_that_are_no_text_come_back(in_process: Run, models: Path, folder: Path) -> None:
    name = os.fsdecode(b"photos/0/\xff.png")
    try:
        shutil.copy(folder / "0" / "0.png", folder.parent / name)
    except OSError:
        pytest.skip("this file system takes only names that are text")
    arguments = ("infer", "--engine", models / "tiny.onnx", "photos/0", "--output", "out.jsonl")
    in_process(*arguments)
    assert answers(folder.parent / "out.jsonl")[-1]["image"] == name
    assert in_process(*arguments, "--resume").stdout == "out.jsonl: 11 pictures, 0 of them now\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--resume"], "--resume goes with --output"),
        (["--force"], "--force goes with --output"),
        (["--output", "out.json"], "--output writes jsonl or csv, not json"),
        (["--output", "out"], "not a file without suffix"),
        (["--output", "out.jsonl", "--format", "table"], "not table"),
        (["--output", "out.csv", "--resume"], "--resume goes with a .jsonl file"),
        (["--output", "out.jsonl", "--resume", "--force"], "give one of them"),
        (["--shard", "0/3"], "'0/3' is not K/N"),
        (["--shard", "4/3"], "'4/3' is not K/N"),
        (["--shard", "3"], "'3' is not K/N"),
        (["--workers", "0"], "--workers"),
        (["--batch-size", "0"], "--batch-size"),
    ],
)
def test_wrong_usage(in_process: Run, models: Path, folder: Path, arguments: list[str], message: str) -> None:
    done = in_process("infer", "--engine", models / "tiny.onnx", "photos", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert [path.name for path in folder.parent.iterdir()] == ["photos"]


# The end before the end


# Four seconds for what takes half a one: the signal must not come when all is done.
SLOW = """
import sys, time
from edgecls.cli import main
from edgecls_runtime import classifier
right = classifier.load

def slow(*arguments, **options):
    time.sleep(0.02)
    return right(*arguments, **options)

classifier.load = slow
main(sys.argv[1:])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no such signals to send")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_whole_records_and_resume_goes_on(
    edgecls: Run, models: Path, folder: Path, number: signal.Signals, status: int
) -> None:
    for copy in range(20):
        shutil.copytree(folder / "0", folder / f"more{copy}")
    arguments = ["infer", "--engine", str(models / "tiny.onnx"), "photos", "--output", "out.jsonl"]
    out = folder.parent / "out.jsonl"
    command = [sys.executable, "-c", SLOW, *arguments, "--workers", "1"]
    with subprocess.Popen(command, cwd=folder.parent, stderr=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        while not out.exists() or len(out.read_bytes().splitlines()) < 12:
            assert process.poll() is None
            time.sleep(0.001)
        process.send_signal(number)
        printed, said = process.communicate(timeout=60)
    assert (process.returncode, printed) == (status, b"")
    assert out.read_bytes().endswith(b"}\n")
    records = lines(out)
    assert "summary" not in records[-1]
    count = len(records) - 1
    assert 11 <= count < 230
    assert said.decode() in [  # the signal may fall between writing an answer and counting it
        f"interrupted: {number} pictures answered.\n       Go on with --resume: out.jsonl holds them.\n"
        for number in (count, count - 1)
    ]
    done = edgecls(*arguments, "--resume")
    assert done.stdout == f"out.jsonl: 230 pictures, {230 - count} of them now\n"
    assert [record["image"] for record in answers(out)] == [
        path.removeprefix(f"{folder.parent}/") for path in Pictures([str(folder)])
    ]


def test_an_interruption_before_there_is_a_file_names_none(
    in_process: Run, models: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Classifier, "load", interrupt)
    done = in_process("infer", "--engine", models / "tiny.onnx", "photos", "--output", "out.jsonl")
    assert (done.returncode, done.stderr) == (130, "interrupted: 0 pictures answered.\n")
    assert not (folder.parent / "out.jsonl").exists()


def test_a_killed_run_can_go_on(edgecls: Run, models: Path, folder: Path) -> None:
    arguments = ["infer", "--engine", str(models / "tiny.onnx"), "photos", "--output", "out.jsonl"]
    out = folder.parent / "out.jsonl"
    with subprocess.Popen(
        [sys.executable, "-m", "edgecls", *arguments, "--workers", "1"], cwd=folder.parent
    ) as process:
        while not out.exists() or len(out.read_bytes().splitlines()) < 5:
            time.sleep(0.001)
        process.kill()
    assert edgecls(*arguments, "--resume").returncode == 1
    assert [record["image"] for record in answers(out)] == [f"photos/{n // 10}/{n % 10}.png" for n in range(30)]


# A bar


@pytest.mark.skipif(sys.platform == "win32", reason="has no pseudo-terminals")
@pytest.mark.parametrize("to_file", [True, False])
def test_a_bar_only_on_a_terminal_that_does_not_show_the_answers(models: Path, folder: Path, to_file: bool) -> None:
    import pty

    terminal, side = pty.openpty()
    command = [sys.executable, "-m", "edgecls", "infer", "--engine", str(models / "tiny.onnx"), "photos"]
    command += ["--output", "out.jsonl"] if to_file else []
    subprocess.run(command, cwd=folder.parent, stderr=side, stdout=side, check=False, timeout=60)
    os.close(side)
    shown = b""
    while chunk := read(terminal):
        shown += chunk
    os.close(terminal)
    assert (b"answering" in shown and b"30/30" in shown) is to_file


def read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 10_000)
    except OSError:  # what Linux says once the other side is closed
        return b""
