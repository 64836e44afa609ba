#!/usr/bin/env python3
"""Learns packs of several tasks again, each among the others, to be good in one model: all-MiniLM-L6-v2, a few rows a task, no labels.

    minilm_together.py DATA MODELS OUT PACK...

DATA and MODELS are as for minilm_calibrate.py. The packs, TASK.stitch, are those to start from, each learned alone. OUT is a
folder, which gets for each a pack of the same name. What it has already is not made again. Merge them with a lambda of 0.8.
Needs numpy and ml_dtypes.
"""

import sys
from pathlib import Path

import numpy as np
import stitchpack
from minilm_calibrate import Together
from minilm_gradient import Gradient, read

LAMBDA = 0.8
ROWS, ROWS_OF_MERGED = 32, 16
WEIGHT_ALONE = 2


class Among:
    """The loss of a pack: of its task with the pack alone, and of all tasks where the pack is merged with the others."""

    def __init__(self, alone, merged, base, others):
        self.alone, self.merged = alone, merged
        self.rest = {name: others[name].astype(np.float32) - np.float32(LAMBDA) * value for name, value in base.items()}

    def __call__(self, parameters, batch):
        loss, slopes = self.alone(parameters, batch)
        # Near enough: where packs overlap, the sum of what they add instead of the mean.
        merged = {name: self.rest[name] + np.float32(LAMBDA) * value for name, value in parameters.items()}
        loss_of_all, slopes_of_all = self.merged(merged, batch)
        total = WEIGHT_ALONE * loss + loss_of_all
        return total, {name: WEIGHT_ALONE * slopes[name] + np.float32(LAMBDA) * slopes_of_all[name] for name in parameters}


def main(data, models, out, *packs):
    models, out = Path(models), Path(out)
    out.mkdir(exist_ok=True)
    base = read(models / "base.safetensors")
    tuned = [models / f"{Path(pack).stem}.safetensors" for pack in packs]
    gradients = [Gradient(data, path, path.stem, ROWS_OF_MERGED) for path in tuned]
    merged = Together(gradients, base)
    for pack, path in zip(packs, tuned):
        target = out / Path(pack).name
        if target.exists():
            continue
        alone = Together([Gradient(data, path, path.stem, ROWS)], base)
        others = stitchpack.load_file(models / "base.safetensors", [p for p in packs if p != pack], lambda_=LAMBDA)
        made = stitchpack.create(models / "base.safetensors", path, target, gradient=Among(alone, merged, base, others))
        print(f"{target}: {made.pack_bytes} bytes, gain {made.gain:.3f}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) < 6:
        sys.exit(__doc__)
    main(*sys.argv[1:])
