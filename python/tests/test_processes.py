"""Threads, forks, pickles, signals, progress."""

import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import stitchpack
from common import bytes_of, numbers, save, tuned


@pytest.fixture
def made(folder, rng):
    values, base = numbers(rng, rows=400)
    b, f = save(folder / "b.safetensors", base), save(folder / "f.safetensors", tuned(rng, values))
    stitchpack.create(b, f, folder / "p.stitch", density=0.1)
    return b, f, folder / "p.stitch"


def test_threads_read_at_once(made):
    b, _, p = made
    model = stitchpack.open(b, [p])
    expected = bytes_of(model)
    names = model.keys() * 8

    def read(name):
        dtype, shape, data = expected[name]
        rows = model.get_bytes(name, 0, len(data) // 2)
        return model.get_bytes(name).tobytes() == data and rows.tobytes() == data[: len(data) // 2]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, names))


def test_a_fork_reads_on(made):
    b, _, p = made
    model = stitchpack.open(b, [p])
    expected = bytes_of(model)
    child = os.fork()
    if child == 0:
        # Anything raised here must not reach the test runner's copy.
        os._exit(0 if bytes_of(model) == expected else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert bytes_of(model) == expected


def test_a_pickle_opens_the_same_model(made):
    b, _, p = made
    with stitchpack.open(b, [(p, 0.5)], overlap="sum", lambda_=0.7) as model:
        expected = bytes_of(model)
        saved = pickle.dumps(model)
        assert len(saved) < 2000, "a pickle holds names, no tensors"
        assert bytes_of(pickle.loads(saved)) == expected
    memory = stitchpack.Pack.from_bytes(p.read_bytes())
    again = pickle.loads(pickle.dumps(memory))
    assert again.id == memory.id and again.path is None
    pack = pickle.dumps(stitchpack.Pack(p))
    stitchpack.create(b, made[1], p, density=0.2, force=True)
    for stale in (saved, pack):
        with pytest.raises(stitchpack.DigestMismatch):
            pickle.loads(stale)


def test_other_threads_run_meanwhile(made):
    b, f, _ = made
    ticks, done = [], threading.Event()

    def tick():
        while not done.is_set():
            ticks.append(time.monotonic())
            time.sleep(0.001)

    thread = threading.Thread(target=tick)
    thread.start()
    began = time.monotonic()
    while time.monotonic() - began < 0.5:
        stitchpack.create(b, f, None, exact=True, effort="small")
        ended = time.monotonic()
    done.set()
    thread.join()
    during = [t for t in ticks if began < t < ended]
    assert max(np.diff([began, *during, ended])) < (ended - began) / 2, "nothing else ran while packs were made"


LONG = """
    import stitchpack, sys
    base, fine_tuned = sys.argv[1:]
    print("ready", flush=True)
    try:
        while True:
            stitchpack.create(base, fine_tuned, None, exact=True, effort="small", base_check="full")
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


def test_ctrl_c(made):
    b, f, _ = made
    # Where this runs in the background, signals of the terminal are ignored, and children would inherit that.
    listen = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    command = [sys.executable, "-c", listen + textwrap.dedent(LONG), str(b), str(f)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "ready\n"
    time.sleep(0.7)
    child.send_signal(signal.SIGINT)
    out, _ = child.communicate(timeout=60)
    assert (out, child.returncode) == ("interrupted\n", 0)


def test_progress_is_told(folder, rng):
    values, base = numbers(rng, rows=20_000)
    b, f = save(folder / "b.safetensors", base), save(folder / "f.safetensors", tuned(rng, values))
    heard = []
    stitchpack.create(b, f, None, exact=True, effort="small", progress=lambda *call: heard.append(call))
    assert heard and all(isinstance(stage, str) and 0 <= done <= total for stage, done, total in heard)


def test_what_a_progress_function_raises_is_raised(folder, rng):
    values, base = numbers(rng, rows=20_000)
    b, f = save(folder / "b.safetensors", base), save(folder / "f.safetensors", tuned(rng, values))

    class Mine(Exception):
        pass

    def progress(*_):
        raise Mine("stop")

    with pytest.raises(Mine):
        stitchpack.create(b, f, folder / "p.stitch", exact=True, effort="small", progress=progress)
    assert not (folder / "p.stitch").exists()
