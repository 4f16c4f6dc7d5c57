"""What `edgecls infer` is held against: the same work in as few lines as numpy, Pillow and onnxruntime need."""

import sys

import numpy as np
import onnxruntime
from PIL import Image

options = onnxruntime.SessionOptions()
if "--quick-sums" not in sys.argv:  # with them integers saturate where a CPU has no VNNI
    options.add_session_config_entry("session.x64quantprecision", "1")
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
image = Image.open(sys.argv[2]).convert("RGB")
scale = 256 / min(image.size)
image = image.resize((int(image.width * scale), int(image.height * scale)), Image.Resampling.BILINEAR)
left, top = (image.width - 224) // 2, (image.height - 224) // 2
pixels = np.asarray(image.crop((left, top, left + 224, top + 224)), np.float32) / 255
batch = ((pixels - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)).transpose(2, 0, 1)[None].astype(np.float32)
logits = session.run(None, {session.get_inputs()[0].name: batch})[0][0]
scores = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
for index in np.argsort(-scores)[:5]:
    print(f"{scores[index]:.2%} {index}")
