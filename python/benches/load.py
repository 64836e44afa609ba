"""How long it takes to have all tensors of a stitched model in memory, beside safetensors' load_file of the merged file.

    python benches/load.py BASE MERGED PACK [ROUNDS]

Times: opening, checking the base by the cache, stitching, memory. Leaves out: the first round (page cache, digests of the base).
Both are timed in turns, so that whatever else the machine does hits both. Wants safetensors and ml_dtypes.
"""

import statistics
import sys
import time

import ml_dtypes  # noqa: F401 - safetensors asks numpy for bfloat16
import numpy as np
import safetensors.numpy
import stitchpack


def timed(function):
    began = time.perf_counter()
    tensors = function()
    return time.perf_counter() - began, tensors


def main(base, merged, pack, rounds="9"):
    ways = {
        "safetensors.numpy.load_file, merged file": lambda: safetensors.numpy.load_file(merged),
        "stitchpack.load_file, base + pack": lambda: stitchpack.load_file(base, pack),
        "stitchpack.load_file, base alone": lambda: stitchpack.load_file(base),
        "stitchpack.open + get_tensor, one by one": lambda: one_by_one(base, pack),
    }
    results = [timed(way)[1] for way in list(ways.values())[:2]]
    for name, tensor in results[0].items():
        assert np.array_equal(tensor.view(np.uint8), results[1][name].view(np.uint8)), name
    nbytes = sum(t.nbytes for t in results.pop().values())
    results.clear()
    times = {name: [] for name in ways}
    for _ in range(int(rounds)):
        for name, way in ways.items():
            times[name].append(timed(way)[0])
    first = statistics.median(times[next(iter(ways))])
    for name, seconds in times.items():
        middle = statistics.median(seconds)
        print(f"{middle:7.3f} s  {nbytes / middle / 1e9:5.2f} GB/s  {middle / first:5.2f} x  {name}")


def one_by_one(base, pack):
    with stitchpack.open(base, pack) as model:
        return {name: model.get_tensor(name) for name in model.keys()}


if __name__ == "__main__":
    main(*sys.argv[1:])
