from __future__ import annotations

import pickle
import re

from edgecls_runtime import errors


def test_docstring_draws_the_tree() -> None:
    drawn = re.findall(r"^    ([│ ├└─]*)(\w+Error)", errors.__doc__ or "", re.MULTILINE)
    parents: list[str] = []
    for branch, name in drawn:
        depth = len(branch) // 4
        parents[depth:] = [name]
        expected = "Exception" if depth == 0 else parents[depth - 1]
        assert getattr(errors, name).__base__.__name__ == expected
    assert sorted(name for _, name in drawn) == sorted(errors.__all__)


def test_an_error_says_cause_and_remedy_and_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(errors.ImageError("a.jpg: is empty", "Get it anew.")))
    assert isinstance(error, errors.ImageError)
    assert str(error) == "a.jpg: is empty\nGet it anew."
