from __future__ import annotations

import dataclasses
import runpy
from pathlib import Path

import numpy as np

from edgecls_runtime import manifest, onnx_file


def test_the_checked_in_models_are_what_their_script_makes(models: Path, tmp_path: Path) -> None:
    script = runpy.run_path(str(models / "make_tiny_models.py"))
    (tmp_path / "shipped").mkdir()
    script["main"](tmp_path, tmp_path / "shipped")
    names = sorted(path.name for path in tmp_path.glob("*.onnx"))
    assert names == sorted(path.name for path in models.glob("*.onnx"))
    assert len(names) > 8
    shipped = sorted(path.name for path in (tmp_path / "shipped").iterdir())
    assert shipped == sorted(path.name for path in script["SHIPPED"].glob("*.onnx"))
    for name in [*names, *shipped]:
        made, kept = tmp_path / name, models / name
        if name in shipped:
            made, kept = tmp_path / "shipped" / name, script["SHIPPED"] / name
        if name == "external.onnx":  # its weights are lost on purpose, so no reader takes it
            assert made.read_bytes() == kept.read_bytes()
            continue
        assert onnx_file.graph_sha256(made) == onnx_file.graph_sha256(kept), name
        ours, theirs = manifest.read(made), manifest.read(kept)
        if ours is None or theirs is None:
            assert ours is theirs
            continue
        assert ours.golden is not None
        assert theirs.golden is not None
        # The evaluator's last bits depend on the machine's BLAS; all else is exact.
        np.testing.assert_allclose(ours.golden.logits(), theirs.golden.logits(), rtol=1e-5, atol=1e-6)
        assert dataclasses.replace(ours, golden=None) == dataclasses.replace(theirs, golden=None)
        assert ours.golden.pixels_sha256 == theirs.golden.pixels_sha256
