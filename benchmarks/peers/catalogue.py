"""Who is measured, in which environment, with which options, and what edgecls wants to be against them.

A section is a set of pictures: `photos` are ImageNet's, about 500x375; `large` are the same at 12 megapixels.
"""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["PEERS", "REFERENCES", "Peer"]


@dataclass(frozen=True, kw_only=True)
class Peer:
    """One row of the table.

    Attributes:
        name: what it is called there.
        precision: ``fp32`` or ``int8``, of the model file.
        environment: name of its file in `requirements/`.
        worker: name of its file in `workers/`.
        options: for that worker's `load`.
        needs: what `convert.py` has to make for it.
        wanted: section -> precision of edgecls -> least ratio of this peer's time to edgecls's. It takes part in the
            sections that are named here.
        same_pixels: its preprocess is torchvision's; else it has one of its own, and the same classes are not expected.
    """

    name: str
    precision: str = "fp32"
    environment: str
    worker: str
    options: dict[str, object] = field(default_factory=dict)
    needs: str = ""
    wanted: dict[str, dict[str, float]] = field(default_factory=lambda: {"photos": {}})
    same_pixels: bool = True

    @property
    def key(self) -> str:
        return f"{self.name}, {self.precision.upper()}"


def _both(name: str, *, wanted: dict[str, dict[str, dict[str, float]]] | None = None, **rest: object) -> list[Peer]:
    """Return a peer for each precision, with what ``wanted`` holds for it."""
    options = rest.pop("options", {})
    return [
        Peer(
            name=name,
            precision=precision,
            options={**options, "precision": precision},
            wanted=(wanted or _PHOTOS)[precision],
            **rest,
        )
        for precision in _PRECISIONS
    ]


_PRECISIONS = ("fp32", "int8")
_PHOTOS: dict[str, dict[str, dict[str, float]]] = {precision: {"photos": {}} for precision in _PRECISIONS}
_EVERYWHERE: dict[str, dict[str, dict[str, float]]] = {
    precision: {"photos": {}, "large": {}} for precision in _PRECISIONS
}
# edgecls at most 1.10 times the least; the others at least so many times edgecls.
_LEAST = {precision: {"photos": {precision: 1 / 1.10}} for precision in _PRECISIONS}
# Whoever deploys a pipeline in FP32 may go to edgecls in INT8; in INT8 itself the pipeline shall be beaten as clearly.
_PIPELINE = {
    "fp32": {"photos": {"fp32": 1.35, "int8": 1.8}, "large": {"fp32": 3.0, "int8": 3.0}},
    "int8": {"photos": {"int8": 1.8}, "large": {"int8": 3.0}},
}
_EAGER = {"photos": {"fp32": 2.3, "int8": 2.9}}

REFERENCES = {"photos": "edgecls", "large": 'edgecls, `decode="fast"`'}
"""Section -> name of the peer that the others are divided by."""

PEERS = [
    *_both("edgecls", environment="runtime", worker="edgecls", wanted=_EVERYWHERE),
    *_both(
        REFERENCES["large"],
        environment="runtime",
        worker="edgecls",
        options={"decode": "fast"},
        same_pixels=False,
        wanted=_EVERYWHERE,
    ),
    *_both(
        "the least: Pillow decode + resize, raw `session.run`",
        environment="runtime",
        worker="bare",
        options={"whole": False},
        wanted=_LEAST,
    ),
    *_both("onnxruntime, script by hand", environment="runtime", worker="bare", options={"whole": True}),
    *_both(
        "transformers pipeline on optimum, as documented",
        environment="torch",
        worker="pipeline",
        needs="transformers",
        wanted=_PIPELINE,
    ),
    *_both(
        "transformers pipeline on optimum, tuned",
        environment="torch",
        worker="pipeline",
        options={"tuned": True},
        needs="transformers",
        wanted=_EVERYWHERE,
    ),
    Peer(
        name="PyTorch eager + torchvision",
        environment="torch",
        worker="pytorch",
        options={"way": "eager"},
        wanted=_EAGER,
    ),
    Peer(
        name="PyTorch eager, channels last",
        environment="torch",
        worker="pytorch",
        options={"way": "eager", "channels_last": True},
    ),
    Peer(name="torch.compile", environment="torch", worker="pytorch", options={"way": "compile"}),
    Peer(
        name="torch.compile, max-autotune and freezing",
        environment="torch",
        worker="pytorch",
        options={"way": "compile-tuned"},
    ),
    Peer(
        name="TorchScript, optimized for inference",
        environment="torch",
        worker="pytorch",
        options={"way": "torchscript"},
    ),
    Peer(name="timm, eager", environment="torch", worker="timm_eager", same_pixels=False),
    *_both("OpenVINO, in float32", environment="openvino", worker="openvino_api", options={"computes_in": "f32"}),
    Peer(
        name="OpenVINO, in the precision it chooses",
        environment="openvino",
        worker="openvino_api",
        options={"precision": "fp32"},
    ),
    Peer(name="ncnn", environment="ncnn", worker="ncnn_net", needs="ncnn"),
    Peer(name="LiteRT", environment="litert", worker="litert", needs="litert"),
    Peer(
        name="LiteRT, its own number of threads",
        environment="litert",
        worker="litert",
        options={"own_threads": True},
        needs="litert",
    ),
]
