"""ncnn, converted by its own pnnx. Pillow decodes and resizes (ncnn's resize does not antialias), ncnn normalizes."""

from __future__ import annotations

import ncnn
import numpy as np
from by_hand import CROP, MEAN, STD, best_five, centre


def load(files, threads):
    mean, factor = (255 * MEAN).tolist(), (1 / (255 * STD)).tolist()
    net = ncnn.Net()
    net.opt.num_threads = threads
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    if net.load_param(f"{files['ncnn']}/model.ncnn.param") or net.load_model(f"{files['ncnn']}/model.ncnn.bin"):
        raise RuntimeError("ncnn cannot load what pnnx converted")

    def top5(path):
        pixels = centre(path)
        batch = ncnn.Mat.from_pixels(pixels, ncnn.Mat.PixelType.PIXEL_RGB, CROP, CROP)
        batch.substract_mean_normalize(mean, factor)
        extractor = net.create_extractor()
        extractor.input("in0", batch)
        _, found = extractor.extract("out0")
        return best_five(np.array(found))

    return top5
