"""One peer in a process of its own, which the driver asks for one picture at a time.

    ENVIRONMENT/bin/python worker.py workers/PEER.py '{"files": {...}, "threads": 2, "options": {...}}'

It loads the peer's `load(files, threads, **options)`, which returns what turns a picture's path into its five best
classes, and prints one JSON line: `{"versions": {...}, "note": "..."}` or `{"error": "..."}`. Then it waits. Each line
on standard input, `{"before": PATH, "picture": PATH}`, is answered by `{"seconds": ..., "top5": [...]}` or an error:
`before` is answered first and not counted, so that caches and threads are where they are in a running program, and not
where another peer left them.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import sys
import time


def main(module: str, argument: str) -> None:
    # What libraries print goes to standard error; the driver's pipe is for answers alone.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def say(answer: dict) -> None:
        answers.write(json.dumps(answer) + "\n")

    try:
        spec = importlib.util.spec_from_file_location("peer", module)
        peer = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(peer)
        wanted = json.loads(argument)
        top5 = peer.load(wanted["files"], wanted["threads"], **wanted["options"])
    except Exception as error:  # noqa: BLE001 - whatever it is, it is why this peer has no row of numbers
        say({"error": reason(error)})
        return
    say({"versions": {item.name: item.version for item in importlib.metadata.distributions()}})
    for line in sys.stdin:
        turn = json.loads(line)
        try:
            top5(turn["before"])
            started = time.perf_counter()
            best = top5(turn["picture"])
            seconds = time.perf_counter() - started
        except Exception as error:  # noqa: BLE001
            say({"error": reason(error)})
            continue
        say({"seconds": seconds, "top5": None if best is None else [int(index) for index in best]})


def reason(error: Exception) -> str:
    """Return the error's first line, after its kind unless it is one that only carries words."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return text if type(error) is RuntimeError and text else f"{type(error).__name__}: {text}"


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
