"""The workflow to copy, and the page about it: every command of ours in them is one that there is."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest

ROOT = Path(__file__).parents[1]
WORKFLOW = ROOT / "docs" / "ci" / "github-actions.yml"
PAGE = ROOT / "docs" / "benchmarks.md"


def commands(script: str) -> list[list[str]]:
    """Return the words of each `edgecls` command of a shell script."""
    lines = script.replace("\\\n", " ").splitlines()
    found = [line.strip() for line in lines if re.match(r"\s*edgecls ", line)]
    return [shlex.split(re.split(r"\|\||&&|;|#", line)[0]) for line in found]


def parse(words: list[str]) -> None:
    """Parse a command as `edgecls` would, and do not run it."""
    from edgecls.cli import cli

    name, command, rest = words[0], cli, words[1:]
    while isinstance(command, click.Group) and rest:
        inner = command.get_command(click.Context(command), rest[0])
        if inner is None:
            break
        name, command, rest = rest[0], inner, rest[1:]
    command.make_context(name, rest)


def steps() -> list[dict[str, Any]]:
    yaml = pytest.importorskip("yaml")
    workflow = yaml.safe_load(WORKFLOW.read_text("utf-8"))
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def test_the_workflow_is_one() -> None:
    yaml = pytest.importorskip("yaml")
    workflow = yaml.safe_load(WORKFLOW.read_text("utf-8"))
    assert set(workflow[True]) == {"pull_request", "workflow_dispatch"}  # YAML takes `on` for a truth value
    assert list(workflow["jobs"]) == ["in-turn", "against-a-file"]
    for job in workflow["jobs"].values():
        assert {"runs-on", "timeout-minutes", "steps"} <= set(job)
        for step in job["steps"]:
            assert ("run" in step) != ("uses" in step), step


def test_every_command_of_the_workflow_is_one_of_ours() -> None:
    found = [words for step in steps() for words in commands(step.get("run", ""))]
    assert [words[:2] for words in found] == [["edgecls", "doctor"], ["edgecls", "bench"], ["edgecls", "bench"]]
    for words in found:
        parse(words)
    with pytest.raises(click.UsageError):
        parse([*found[1], "--no-such-option"])
    with pytest.raises(click.UsageError):
        parse([*found[2], "--iterations", "0"])


def test_every_command_of_the_page_is_one_of_ours() -> None:
    text = PAGE.read_text("utf-8")
    named = re.findall(r"`(edgecls [^`]+)`", text)
    assert len(named) >= 3
    for command in named:
        parse(shlex.split(command) if " --" in command else [*shlex.split(command), "MODEL"])
    source = "".join(path.read_text("utf-8") for path in (ROOT / "edgecls").rglob("*.py"))
    for option in re.findall(r"`(--[a-z-]+)[ `]", text):
        assert f'"{option}"' in source, option
    assert (PAGE.parent / "ci" / "github-actions.yml").exists()
