"""Learned localization with torch: the pack is better than one without data, and the module is as it was."""

import json

import pytest
import stitchpack
from common import floats, needs, save

torch = needs("torch")

import stitchpack.torch as st  # noqa: E402


def net(dtype=torch.float32):
    torch.manual_seed(1)
    layers = torch.nn.Linear(12, 24), torch.nn.Tanh(), torch.nn.Dropout(0.5), torch.nn.Linear(24, 6)
    return torch.nn.Sequential(*layers).to(dtype)


def save_module(path, module):
    kinds = {torch.float32: "F32", torch.bfloat16: "BF16"}
    state = module.state_dict()
    return save(path, {n: (kinds[t.dtype], list(t.shape), floats(kinds[t.dtype], t.float().numpy())) for n, t in state.items()})


@pytest.fixture
def task(folder):
    """A base, a fine-tune of it, and batches whose inputs use half of the features only."""
    base, tuned = net(), net()
    torch.manual_seed(2)
    with torch.no_grad():
        for p in tuned.parameters():
            p.add_(torch.randn(p.shape) * 0.3)
    batches = [torch.cat([torch.randn(16, 6), torch.zeros(16, 6)], 1) for _ in range(4)]
    return save_module(folder / "b.safetensors", base), save_module(folder / "f.safetensors", tuned), batches


def divergence(base, pack, fine_tuned, batches):
    """How far the stitched model's distributions are from the fine-tuned model's."""
    a, b = net().eval(), net().eval()
    a.load_state_dict(st.state_dict(base, pack))
    b.load_state_dict(st.state_dict(fine_tuned))
    with torch.no_grad():
        p, q = [m(torch.cat(batches)).log_softmax(-1) for m in (a, b)]
    return torch.nn.functional.kl_div(p, q, log_target=True, reduction="batchmean").item()


def test_a_learned_pack_is_nearer_to_the_fine_tuned_model(task, folder):
    base, fine_tuned, batches = task
    plain = stitchpack.create(base, fine_tuned, folder / "plain.stitch", density=0.2, values="f32", rescale="none")
    learned = st.localize(base, fine_tuned, net(), None, batches, density=0.2, values="f32", rescale="none")
    assert plain.kept == sum(learned.tensors.values()) and learned.path is None
    apart = [divergence(base, pack, fine_tuned, batches) for pack in ([], folder / "plain.stitch", learned)]
    assert apart[2] < apart[1] < apart[0], apart


def test_the_module_is_as_it_was(task, folder):
    base, fine_tuned, batches = task
    module = net().train()
    with torch.no_grad():
        module[0].weight.fill_(0.5)
    module[3].bias.requires_grad_(False)
    module[0].weight.grad = torch.ones_like(module[0].weight)
    module[1].eval()
    before = {n: t.clone() for n, t in module.state_dict().items()}

    def check():
        assert all(torch.equal(t, before[n]) for n, t in module.state_dict().items())
        assert module.training and not module[1].training and module[2].training
        assert module[0].weight.requires_grad and not module[3].bias.requires_grad
        assert module[0].weight.grad.sum() == module[0].weight.numel() and module[0].bias.grad is None

    out = folder / "p.stitch"
    pack = st.localize(base, fine_tuned, module, None, batches, out=out, density=0.2, learn={"path": 2, "steps": 4})
    assert pack.path == out and out.exists()
    check()

    def failing(model, batch):
        raise RuntimeError("no more data")

    with pytest.raises(RuntimeError, match="no more data"):
        st.localize(base, fine_tuned, module, failing, batches, density=0.2)
    check()


def test_a_loss_of_ones_own(task):
    base, fine_tuned, batches = task
    heard = []

    def loss(model, batch):
        heard.append(batch)
        assert not model.training
        return model(batch["input"]).square().mean()

    named = [{"input": b} for b in batches]
    st.localize(base, fine_tuned, net(), loss, named, density=0.2, learn={"path": 2, "steps": 6})
    # Nine batches, one after another: the third is asked for several times.
    places = {id(batch): i for i, batch in enumerate(named)}
    asked = [places[id(h)] for i, h in enumerate(heard) if i == 0 or h is not heard[i - 1]]
    assert asked == [i % 4 for i in range(9)]


def test_forms_of_batches_give_the_same_pack(task):
    base, fine_tuned, batches = task
    learn = {"path": 2, "steps": 5}
    forms = [batches, [(b,) for b in batches], [{"input": b} for b in batches], (b.clone() for b in batches)]
    ids = {st.localize(base, fine_tuned, net(), None, form, density=0.2, learn=learn).id for form in forms}
    assert len(ids) == 1


def test_a_module_of_another_dtype_and_other_names(task):
    base, fine_tuned, batches = task
    wrapped = torch.nn.ModuleDict({"net": net(torch.float64)})
    wrapped.forward = lambda batch: wrapped["net"](batch.double())
    options = {"density": 0.2, "learn": {"path": 2, "steps": 5}}
    pack = st.localize(base, fine_tuned, wrapped, None, batches, names=lambda n: n[len("net.") :], **options)
    assert sum(pack.tensors.values()) > 0


def test_what_makes_no_sense(task, folder):
    base, fine_tuned, batches = task
    with pytest.raises(stitchpack.InvalidInput, match="batches"):
        st.localize(base, fine_tuned, net(), None, [])
    with pytest.raises(stitchpack.InvalidInput, match="map them"):
        st.localize(base, fine_tuned, torch.nn.Linear(3, 3), None, batches, names=lambda n: None)
    with pytest.raises(stitchpack.InvalidInput, match="shape"):
        st.localize(base, fine_tuned, torch.nn.Sequential(torch.nn.Linear(3, 3)), None, batches)
    silent = net()
    silent.forward = lambda batch: None
    with pytest.raises(stitchpack.InvalidInput, match="give a loss"):
        st.localize(base, fine_tuned, silent, None, batches)


class Renamed(torch.nn.Module):
    """The net, with a tensor under another name than the checkpoints have."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.body = net()
        self.out = torch.nn.Linear(24, 6)

    def forward(self, batch):
        return self.out(self.body[:3](batch))


def test_a_module_that_matches_in_part_is_refused_by_name(task, folder):
    base, fine_tuned, batches = task
    how = {"density": 0.2, "learn": {"path": 2, "steps": 2}}

    def names(own):
        return own[len("body.") :] if own.startswith("body.0") else None

    with pytest.raises(stitchpack.Refused) as e:
        st.localize(base, fine_tuned, Renamed(), None, batches, names=names, **how)
    assert all(part in str(e.value) for part in ("Renamed", "body.3.weight", "3.bias", "map names")), e.value

    def whole(own):
        return own.replace("out", "3") if own.startswith("out") else own[5:] if own.startswith("body.0") else None

    module = Renamed()
    module.body[3] = torch.nn.Identity()
    other = Renamed(seed=5)
    other.body[3] = torch.nn.Identity()
    packs = [st.localize(base, fine_tuned, m, None, batches, names=whole, **how) for m in (module, other)]
    assert packs[0].id == packs[1].id


def test_a_tensor_that_the_module_lacks_may_be_left_out(task):
    base, fine_tuned, batches = task
    module = net()[:3]
    options = {"density": 0.2, "learn": {"path": 2, "steps": 2}}
    for loss in (None, lambda model, batch: model(batch).square().mean()):
        with pytest.raises(stitchpack.Refused, match='"3.bias" and 1 other'):
            st.localize(base, fine_tuned, module, loss, batches, **options)
    pack = st.localize(base, fine_tuned, module, None, batches, exclude=["3.*"], **options)
    assert set(pack.tensors) <= {"0.weight", "0.bias"}


def test_a_module_with_more_than_the_checkpoints_have_is_refused(task):
    base, fine_tuned, batches = task
    module = net().append(torch.nn.LayerNorm(6))
    with pytest.raises(stitchpack.Refused, match='"4.weight" and 1 other have no values in the base'):
        st.localize(base, fine_tuned, module, None, batches, density=0.2)
    tied = net()
    tied.register_parameter("again", tied[3].bias)
    tied.register_buffer("count", torch.zeros(1, dtype=torch.int64))
    st.localize(base, fine_tuned, tied, None, batches, density=0.2, learn={"path": 2, "steps": 2})


def test_a_carried_head_is_the_fine_tuned_models(task, folder):
    base, fine_tuned, batches = task
    tuned = net()
    tuned.load_state_dict(st.state_dict(fine_tuned))
    torch.manual_seed(9)
    tuned.append(torch.nn.Linear(6, 3))
    headed = save_module(folder / "headed.safetensors", tuned)
    ids = set()
    for seed in range(2):
        module = net().append(torch.nn.Linear(6, 3))
        torch.manual_seed(seed)
        torch.nn.init.normal_(module[4].weight)
        with pytest.raises(stitchpack.Refused, match="4.weight"):
            st.localize(base, headed, module, None, batches, density=0.2)
        how = {"density": 0.2, "learn": {"path": 2, "steps": 2}, "new_tensors": "carry"}
        ids.add(st.localize(base, headed, module, None, batches, **how).id)
    assert len(ids) == 1


def test_a_teacher_that_lacks_or_resizes_a_tensor_is_refused(task, folder):
    base, fine_tuned, batches = task
    state = st.state_dict(fine_tuned)
    kind = {n: ("F32", list(t.shape), floats("F32", t.numpy())) for n, t in state.items()}
    less = save(folder / "less.safetensors", {n: t for n, t in kind.items() if n != "3.bias"})
    with pytest.raises(stitchpack.Refused, match="does not have"):
        st.localize(base, less, net(), None, batches, density=0.2)
    # One number would fill a whole row without a word.
    narrow = save(folder / "narrow.safetensors", {**kind, "3.bias": ("F32", [1], floats("F32", state["3.bias"][:1].numpy()))})
    with pytest.raises(stitchpack.StitchpackError):
        st.localize(base, narrow, net(), None, batches, density=0.2, new_tensors="skip")


def save_adapter(folder, kind, module):
    """A LoRA or a SHiRA on the first layer, and that layer's weight with it."""
    torch.manual_seed(3)
    weight = module[0].weight.detach()
    if kind == "LORA":
        a, b = torch.randn(2, 12) * 0.5, torch.randn(24, 2) * 0.5
        parts = {"lora_A.weight": a, "lora_B.weight": b}
        changed = weight + 2 * (b @ a)
    else:
        rows = torch.arange(24)
        rows, columns = rows.repeat(2), torch.cat([rows, rows + 5]) % 12
        values = torch.randn(48) * 0.5
        parts = {"shira_indices": torch.stack([rows, columns]), "shira_weight": values}
        changed = weight.clone()
        changed[rows, columns] += values
    folder.mkdir()
    config = {"peft_type": kind, "r": 2, "lora_alpha": 4}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    kinds = {torch.float32: "F32", torch.int64: "I64"}
    tensors = {f"base_model.model.0.{n}": (kinds[t.dtype], list(t.shape), t.numpy().tobytes()) for n, t in parts.items()}
    save(folder / "adapter_model.safetensors", tensors)
    return changed


@pytest.mark.parametrize("kind", ["LORA", "SHIRA"])
def test_an_adapter_stands_for_its_model(task, folder, kind):
    base, _, batches = task
    whole = net()
    with torch.no_grad():
        whole[0].weight.copy_(save_adapter(folder / "adapter", kind, whole))
    fine_tuned = save_module(folder / "whole.safetensors", whole)
    how = {"density": 0.05, "values": "f32", "rescale": "none"}
    packs = [st.localize(base, tuned, net(), None, batches, **how) for tuned in (folder / "adapter", fine_tuned)]
    assert set(packs[0].tensors) == set(packs[1].tensors) == {"0.weight"}
    plain = stitchpack.create(base, fine_tuned, folder / "plain.stitch", **how)
    apart = [divergence(base, pack, fine_tuned, batches) for pack in ([], folder / "plain.stitch", *packs)]
    assert apart[2] < apart[1] < apart[0] and plain.kept == sum(packs[0].tensors.values())
    # Sums may differ in their last bit, and so may what is learned from them.
    assert abs(apart[2] - apart[3]) < 0.1 * apart[3]
    module = net()
    before = {n: t.clone() for n, t in module.state_dict().items()}
    (folder / "adapter" / "adapter_config.json").write_text("{")
    with pytest.raises(stitchpack.Malformed):
        st.localize(base, folder / "adapter", module, None, batches, **how)
    assert all(torch.equal(t, before[n]) for n, t in module.state_dict().items())
