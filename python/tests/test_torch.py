"""torch and transformers: loading, and swapping packs in a module that runs."""

import sys

import numpy as np
import pytest
import stitchpack
from common import floats, needs, save

torch = needs("torch")
transformers = needs("transformers")

import stitchpack.torch as st  # noqa: E402

KINDS = {torch.bfloat16: "BF16", torch.float16: "F16", torch.float32: "F32", torch.int64: "I64", torch.bool: "BOOL"}


def raw(tensor):
    return tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes()


def save_module(path, module, skip=()):
    """The state dict as a safetensors file, tied tensors once each but for those of ``skip``."""
    state = {n: t for n, t in module.state_dict().items() if n not in skip}
    return save(path, {n: (KINDS[t.dtype], list(t.shape), raw(t)) for n, t in state.items()})


def nudge(module, seed, share=0.1):
    """A fine-tune: some weights of every tensor move."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            p.add_((torch.randn(p.shape) * (torch.rand(p.shape) < share) * 0.05).to(p.dtype))


def bert(dtype=torch.bfloat16, head=False):
    config = transformers.BertConfig(
        vocab_size=60, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48, max_position_embeddings=16
    )
    torch.manual_seed(0)
    model = transformers.BertForMaskedLM(config) if head else transformers.BertModel(config)
    return model.to(dtype).eval()


@pytest.fixture
def tasks(folder):
    """A base and two fine-tunes of a small BERT, as files, an exact pack and a lossy one."""
    base = save_module(folder / "base.safetensors", bert())
    packs = []
    for i, how in enumerate([{"exact": True}, {"density": 0.05}]):
        tuned = bert()
        nudge(tuned, i + 1)
        fine_tuned = save_module(folder / f"f{i}.safetensors", tuned)
        stitchpack.create(base, fine_tuned, folder / f"{i}.stitch", **how)
        packs.append(folder / f"{i}.stitch")
    return base, packs


def same(module, base, packs, **options):
    """Whether a module holds what a fresh load gives."""
    expected = st.state_dict(base, packs, **options)
    own = module.state_dict()
    return all(raw(own[name]) == raw(tensor) for name, tensor in expected.items())


def test_tensors_are_those_of_numpy(tasks):
    base, packs = tasks
    with stitchpack.open(base, packs, framework="pt", overlap="sum") as model:
        for name in model.keys():
            tensor = model.get_tensor(name)
            assert tensor.dtype in (torch.bfloat16, torch.int64) and list(tensor.shape) == model.get_shape(name)
            assert raw(tensor) == model.get_bytes(name).tobytes()
            for index in (np.s_[1:7:2], np.s_[0], np.s_[-1:], np.s_[..., 0]):
                # numpy has no bfloat16 of its own, but torch's slices are numpy's.
                assert torch.equal(model.get_slice(name)[index], tensor[index])


def test_a_torch_tensor_may_be_written_to(tasks, folder):
    base, packs = tasks
    with stitchpack.open(base, [], framework="pt") as model:
        before = base.read_bytes()
        model.get_tensor("pooler.dense.bias").add_(1)
        model.get_slice("pooler.dense.bias")[1:3].add_(1)
    assert base.read_bytes() == before


def test_every_dtype_that_torch_has(folder):
    kinds = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "F64": torch.float64, "I64": torch.int64,
             "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
             "C64": torch.complex64}  # fmt: skip
    tensors = {}
    for name, kind in kinds.items():
        numbers = torch.tensor([[1, 0, 1]]).to(kind)
        data = torch.view_as_real(numbers).numpy().tobytes() if name == "C64" else raw(numbers)
        tensors[name] = (name, [1, 3], data)
    tensors["scalar"], tensors["empty"] = ("F32", [], floats("F32", np.ones(()))), ("BF16", [0, 4], b"")
    loaded = stitchpack.load_file(save(folder / "b.safetensors", tensors), framework="pt")
    for name, kind in kinds.items():
        assert loaded[name].dtype == kind and loaded[name].tolist() == torch.tensor([[1, 0, 1]]).to(kind).tolist()
    assert loaded["scalar"] == 1 and loaded["scalar"].shape == () and loaded["empty"].shape == (0, 4)


def test_transformers_load_it(tasks, folder):
    base, packs = tasks
    tuned = bert()
    nudge(tuned, 1)
    state = st.state_dict(base, packs[:1])
    config = bert().config
    config.torch_dtype = torch.bfloat16
    loaded = transformers.AutoModel.from_pretrained(None, config=config, state_dict=state, torch_dtype=torch.bfloat16).eval()
    ids = torch.tensor([[3, 1, 4, 1, 5]])
    with torch.no_grad():
        assert torch.equal(loaded(ids).last_hidden_state, tuned(ids).last_hidden_state)
        assert not torch.equal(loaded(ids).last_hidden_state, bert()(ids).last_hidden_state)


def test_a_hundred_swaps_leave_no_trace(tasks):
    base, packs = tasks
    module = bert()
    live = st.Live(module, base)
    sets = [([packs[0]], {}), ([packs[1]], {}), (packs, {"overlap": "sum", "lambda_": 0.7}), ([(packs[1], -1)], {}), ([], {})]
    staged = [live.stage(named, **options) for named, options in sets]
    for i in range(100):
        pick = (i * 7 + i // 3) % len(sets)
        live.commit(staged[pick])
        if i % 9 == 0 or i > 95:
            assert same(module, base, sets[pick][0], **sets[pick][1])
    live.clear()
    assert same(module, base, [])
    assert staged[0].nbytes > 0 and staged[-1].nbytes == 0


def test_swap(tasks):
    base, packs = tasks
    module = bert()
    with pytest.raises(stitchpack.InvalidInput, match="base"):
        st.swap(module, packs[0])
    live = st.swap(module, packs[0], base=base)
    assert same(module, base, packs[:1])
    assert st.swap(module, packs[1], base=base) is live
    assert same(module, base, packs[1:])
    with live.using(packs[0]):
        assert same(module, base, packs[:1])
    assert same(module, base, packs[1:])
    st.swap(module, [])
    assert same(module, base, [])


def test_a_module_that_was_loaded_with_packs(tasks):
    base, packs = tasks
    module = bert()
    module.load_state_dict(st.state_dict(base, packs[:1]))
    with pytest.raises(stitchpack.Refused, match="do not hold the base"):
        st.Live(module, base)
    live = st.Live(module, base, held=packs[:1])
    live.clear()
    assert same(module, base, [])
    module.load_state_dict(st.state_dict(base, packs[1]))
    st.swap(module, packs[0], base=base, held=packs[1])
    assert same(module, base, packs[:1])


def test_gradients_and_parameters_survive(tasks):
    base, packs = tasks
    module = bert()
    before = dict(module.named_parameters())
    st.swap(module, packs[0], base=base)
    assert all(module.get_parameter(n) is p and p.requires_grad for n, p in before.items())


def test_prefixes_and_names(tasks, folder):
    base, packs = tasks
    masked = bert(head=True)
    masked.bert.load_state_dict(st.state_dict(base), strict=False)
    live = st.Live(masked, base)
    # The model with the head has no pooler.
    inside = folder / "inside.stitch"
    stitchpack.create(base, folder / "f1.safetensors", inside, density=0.05, exclude=["pooler.*"])
    live.commit(live.stage(inside))
    expected = st.state_dict(base, inside)
    assert raw(masked.bert.encoder.layer[0].output.dense.weight) == raw(expected["encoder.layer.0.output.dense.weight"])
    # A checkpoint of the model with the head, swapped in the bare model.
    whole = save_module(
        folder / "masked.safetensors", bert(head=True), skip=("cls.predictions.decoder.weight", "cls.predictions.decoder.bias")
    )
    bare = bert(head=True).bert
    st.Live(bare, whole)
    odd = torch.nn.ModuleDict({"model": bert()})
    for names in (lambda n: n[len("model.") :], {"model." + n: n for n in bert().state_dict()}):
        st.Live(odd, base, names=names)
    with pytest.raises(stitchpack.InvalidInput, match="map them"):
        st.Live(odd, base)


def tied_pair():
    embed, head = torch.nn.Embedding(30, 8), torch.nn.Linear(8, 30, bias=False)
    head.weight = embed.weight
    return torch.nn.ModuleDict({"embed": embed, "head": head})


def test_tied_parameters(folder):
    torch.manual_seed(5)
    module = tied_pair()
    both = save_module(folder / "both.safetensors", module)
    one = save_module(folder / "one.safetensors", module, skip=("head.weight",))
    for base, skip in ((both, ()), (one, ("head.weight",))):
        tuned = tied_pair()
        tuned.load_state_dict(module.state_dict())
        nudge(tuned, 3)
        f = save_module(folder / "f.safetensors", tuned, skip=skip)
        stitchpack.create(base, f, folder / "p.stitch", exact=True, force=True)
        live = st.Live(module, base)
        live.commit(live.stage(folder / "p.stitch"))
        assert torch.equal(module["head"].weight, tuned["head"].weight) and module["head"].weight is module["embed"].weight
        live.clear()
    apart = tied_pair()
    apart["head"].weight = torch.nn.Parameter(apart["embed"].weight.detach() + 1)
    f = save_module(folder / "apart.safetensors", apart)
    stitchpack.create(both, f, folder / "apart.stitch", exact=True)
    with pytest.raises(stitchpack.Refused, match="one tensor"):
        st.Live(module, both).stage(folder / "apart.stitch")


def test_what_cannot_be_swapped(tasks):
    base, packs = tasks
    with pytest.raises(stitchpack.Refused, match="dtype"):
        st.Live(bert(torch.float32), base)
    turned = bert()
    weight = turned.pooler.dense.weight
    turned.pooler.dense.weight = torch.nn.Parameter(weight.detach().t().contiguous().t())
    with pytest.raises(stitchpack.Refused, match="contiguous"):
        st.Live(turned, base)
    small = bert()
    small.pooler.dense.bias = torch.nn.Parameter(small.pooler.dense.bias.detach()[:-1])
    with pytest.raises(stitchpack.Refused, match="shape"):
        st.Live(small, base)
    partial = bert()
    partial.pooler = None
    with pytest.raises(stitchpack.Refused, match="does not have"):
        st.Live(partial, base).stage(packs[0])
    live, other = st.Live(bert(), base), st.Live(bert(), base)
    with pytest.raises(stitchpack.InvalidInput, match="another module"):
        other.commit(live.stage(packs[0]))


def test_a_failed_stage_changes_nothing(tasks):
    base, packs = tasks
    module = bert()
    live = st.Live(module, base)
    live.commit(live.stage(packs[0]))
    with pytest.raises(stitchpack.Refused):
        live.stage(packs[1], lambda_=3e38, weights=[1e6])
    assert same(module, base, packs[:1])


class Interrupting:
    """Raises KeyboardInterrupt at a certain line of the package's code, as Ctrl-C may."""

    def __init__(self, at, times=1):
        self.at, self.times, self.line = at, times, 0

    def __enter__(self):
        sys.settrace(self.call)

    def __exit__(self, kind, *_):
        sys.settrace(None)
        return kind is KeyboardInterrupt

    def call(self, frame, event, _):
        return self.each if frame.f_code.co_filename.endswith("_live.py") else None

    def each(self, frame, event, _):
        if event == "line":
            self.line += 1
            if self.times and self.line >= self.at:
                self.times -= 1
                raise KeyboardInterrupt
        return self.each


def test_an_exception_anywhere_in_a_commit_leaves_one_set_whole(tasks):
    base, packs = tasks
    module = bert()
    live = st.Live(module, base)
    sets = [live.stage(pack) for pack in packs]
    whole = {}
    for name, staged in [("a", sets[0]), ("b", sets[1])]:
        live.commit(staged)
        whole[name] = {n: raw(t) for n, t in module.state_dict().items()}

    def held():
        now = {n: raw(t) for n, t in module.state_dict().items()}
        return next((name for name, state in whole.items() if state == now), None)

    live.commit(sets[0])
    at, seen = 0, set()
    while at < 1000:
        at += 1
        cut = Interrupting(at)
        with cut:
            live.commit(sets[1])
        seen.add((held(), bool(cut.times)))
        if cut.times:
            break
        live.commit(sets[0])
        assert held() == "a", at
    # Cut off early it is the old set, late the new one, and in the end nothing was cut off.
    assert seen == {("a", False), ("b", False), ("b", True)} or seen == {("a", False), ("b", True)}, seen
    assert at > 20

    # Cut off again while it is put right: the next commit mends it.
    for at in range(1, 60, 3):
        live.commit(sets[0])
        with Interrupting(at, times=2):
            live.commit(sets[1])
        live.commit(sets[0])
        assert held() == "a", at
        with Interrupting(at, times=2):
            live.clear()
        live.commit(sets[1])
        assert held() == "b", at


def test_an_error_of_torch_in_a_commit_leaves_the_set_in_play(tasks, monkeypatch):
    base, packs = tasks
    module = bert()
    live = st.Live(module, base)
    live.commit(live.stage(packs[0]))
    calls, real = [], torch.from_numpy

    def failing(array):
        calls.append(array)
        if len(calls) == 5:
            raise RuntimeError("out of memory")
        return real(array)

    staged = live.stage(packs[1])
    monkeypatch.setattr(torch, "from_numpy", failing)
    with pytest.raises(RuntimeError, match="out of memory"):
        live.commit(staged)
    assert same(module, base, packs[:1])
    live.commit(staged)
    assert same(module, base, packs[1:])
