#!/usr/bin/env python3
"""Calibrates packs of several tasks together and writes the merged model: all-MiniLM-L6-v2, a few rows a task, no labels.

    minilm_calibrate.py DATA MODELS OUT PACK...

DATA is as for minilm_gradient.py. MODELS holds base.safetensors and TASK.safetensors, the fine-tuned encoder, for every
TASK.stitch among the packs. OUT is a folder, which gets the model and its recipe, stitch.json.
"""

import sys
from pathlib import Path

import numpy as np
import stitchpack
from minilm_gradient import Batch, Gradient, read

ROWS = 32


class Together:
    """The loss of several tasks: the sum of what each loses, as a share of what the base loses on all its rows."""

    def __init__(self, gradients, base):
        self.gradients = gradients
        self.units = [loss_of(gradient, base) for gradient in gradients]

    def __call__(self, parameters, batch):
        total, sums = 0.0, {name: np.zeros_like(value) for name, value in parameters.items()}
        for gradient, unit in zip(self.gradients, self.units):
            loss, slopes = gradient(batch.seed, batch.step, parameters)
            total += loss / unit
            for name, slope in slopes.items():
                sums[name] += slope / np.float32(unit)
        return total, sums


def loss_of(gradient, parameters):
    found = gradient.shares(parameters, Batch(gradient.ids, gradient.lengths))
    return float((gradient.wanted * np.log((gradient.wanted + 1e-9) / (found + 1e-9))).sum(1).mean())


def main(data, models, out, *packs):
    base = Path(models) / "base.safetensors"
    tasks = [Path(pack).stem for pack in packs]
    gradients = [Gradient(data, Path(models) / f"{task}.safetensors", task, ROWS) for task in tasks]
    gains = stitchpack.calibrate(base, packs, Together(gradients, read(base)))
    for pack, found in zip(packs, gains):
        moved = np.array(list(found.tensors.values())) / found.gain
        print(f"{pack}: gain {found.gain:.3f}, tensors {moved.min():.2f} to {moved.max():.2f} times that, median {np.median(moved):.2f}")
    print(f"result {stitchpack.apply(base, packs, out, gains=gains).result}")


if __name__ == "__main__":
    if len(sys.argv) < 5:
        sys.exit(__doc__)
    main(*sys.argv[1:])
