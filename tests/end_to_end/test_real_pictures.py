"""The main job: MobileNetV2 with real weights names what is in real photos, exactly as PyTorch does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import torchvision
from PIL import Image
from torchvision import transforms

from edgecls_export import Embedding, embed_file


@pytest.mark.real_data
def test_the_device_answers_as_pytorch_and_torchvision_do(real_data: Path, tmp_path: Path) -> None:
    weights = real_data / "weights" / "mobilenet_v2_imagenet.pth"
    folder = real_data / "imagenet_samples"

    def edgecls(*arguments: object) -> str:
        command = [sys.executable, "-m", "edgecls", *map(str, arguments)]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    edgecls("export", "mobilenet_v2", "--weights", weights)
    records = json.loads(edgecls("infer", "--engine", "mobilenet_v2.onnx", folder, "--format", "json"))
    assert len(records) == 200
    assert not [record for record in records if record["error"]]

    # PyTorch with torchvision's own transforms, nothing of this project.
    model = torchvision.models.mobilenet_v2()
    model.load_state_dict(torch.load(weights, weights_only=True))
    model.eval()
    preset = transforms.Compose(
        [
            transforms.Resize(256),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    names = (real_data / "imagenet_classes.txt").read_text().splitlines()
    truth = json.loads((folder / "labels.json").read_text())
    hits = {"edgecls": [0, 0], "torch": [0, 0]}
    with torch.no_grad():
        for record in records:
            path = Path(record["image"])
            scores = model(preset(Image.open(path).convert("RGB"))[None])[0].softmax(0)
            top = scores.topk(5)
            got = [item["index"] for item in record["predictions"]]
            assert got == top.indices.tolist(), path.name
            assert [item["label"] for item in record["predictions"]] == [names[index] for index in got]
            np.testing.assert_allclose([item["score"] for item in record["predictions"]], top.values, atol=1e-5)
            for side, indices in (("edgecls", got), ("torch", top.indices.tolist())):
                hits[side][0] += truth[path.name] == indices[0]
                hits[side][1] += truth[path.name] in indices
    # An embedder without this package: the engine alone, on pixels of torchvision's.
    photos = [(record["image"], record["image"]) for record in records[:3]]
    embed_file(tmp_path / "mobilenet_v2.onnx", tmp_path / "embedded.onnx", Embedding(top_k=5), photos)
    session = onnxruntime.InferenceSession(tmp_path / "embedded.onnx", providers=["CPUExecutionProvider"])
    crop = transforms.Compose(preset.transforms[:2])
    for record in records[::8]:
        pixels = np.asarray(crop(Image.open(record["image"]).convert("RGB")))
        scores_of, indices = session.run(["scores", "indices"], {"pixels": pixels[None]})
        assert indices[0].tolist() == [item["index"] for item in record["predictions"]]
        np.testing.assert_allclose(scores_of[0], [item["score"] for item in record["predictions"]], rtol=1e-5)
    acc1, acc5 = (count / 2 for count in hits["edgecls"])
    print(f"\nMobileNetV2 on {len(records)} photos: acc@1 {acc1} %, acc@5 {acc5} %")
    assert hits["edgecls"] == hits["torch"]
    assert acc1 > 75
