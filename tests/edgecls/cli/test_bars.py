from __future__ import annotations

import io
import re
import sys

import pytest

from edgecls.cli.bars import Steps


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def show(error: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Go through two rounds of pictures and a step without any; return what the last state of each line was."""
    monkeypatch.setattr(sys, "stderr", error)
    with Steps() as steps:
        steps.begin("calibrate")
        for done in (4, 8, 10, 4, 10):
            steps.count(done, 10)
        steps.begin("quantize")
        steps.begin("correct biases")
        steps.count(4, 9)
    assert "None" not in error.getvalue()
    shown = re.sub(r"\x1b\[\?25[lh]", "", error.getvalue())  # the cursor, hidden and shown again
    return [line.rpartition("\r")[2].strip() for line in shown.split("\n")[:-1]]


def test_on_a_terminal_each_round_of_pictures_has_a_bar(monkeypatch):
    lines = show(Terminal(), monkeypatch)
    assert [line.partition("[")[0].strip() for line in lines] == [
        "calibrate ...",
        "pictures",
        "pictures",
        "quantize ...",
        "correct biases ...",
        "pictures",
    ]
    assert ["10/10" in line or "4/9" in line for line in lines] == [False, True, True, False, False, True]


def test_in_a_log_there_are_only_the_steps(monkeypatch):
    assert show(io.StringIO(), monkeypatch) == ["calibrate ...", "quantize ...", "correct biases ..."]
