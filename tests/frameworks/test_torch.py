"""PyTorch: modules, weights and programs become entries, or are refused with what is wrong."""

from __future__ import annotations

import sys

import pytest

pytest.importorskip("torch", reason="torch is not installed: make test-export-frameworks runs it")

import torch
from safetensors.torch import save_file

from tritonbulk.contract import Contract
from tritonbulk.errors import InputError, ModelError, ParityError
from tritonbulk_export import export_torch

pytestmark = pytest.mark.filterwarnings("ignore")
FEATURES = ["features=f*"]


class Net(torch.nn.Module):
    """Two outputs; one has the name of a value inside."""

    def __init__(self):
        super().__init__()
        self.first, self.second = torch.nn.Linear(8, 16), torch.nn.Linear(16, 3)
        self.norm, self.drop = torch.nn.BatchNorm1d(16), torch.nn.Dropout(0.5)

    def forward(self, features, scale=1.0):
        hidden = self.drop(self.norm(self.first(features).relu()))
        return {"embedding": self.second(hidden).softmax(-1) * scale, "linear": hidden}


class Fixed(torch.nn.Module):
    """Adds a buffer that has a batch of its own."""

    def __init__(self, rows):
        super().__init__()
        self.register_buffer("bias", torch.ones(rows, 8))

    def forward(self, features):
        return features + self.bias


class Leak(torch.nn.Module):
    def forward(self, features):
        return features - features.mean(0)


class Weighted(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.bag = torch.nn.EmbeddingBag(50, 4)

    def forward(self, ids, w):
        return self.bag(ids).sum(-1) * w


class Image(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.convolution = torch.nn.Conv2d(3, 4, 3)

    def forward(self, image):
        return self.convolution(image).mean((2, 3)), image.amax((1, 2, 3))


@pytest.fixture
def net():
    torch.manual_seed(0)
    module = Net()
    module.norm.running_mean.uniform_()
    return module


def contract(done):
    return Contract.from_json((done.entry / "contract.json").read_text())


def test_a_factory_with_weights_becomes_an_entry(target, tmp_path, net):
    (tmp_path / "shop.py").write_text(
        f"import sys; sys.path.insert(0, {str(sys.path[0])!r})\n"
        "import torch\n"
        "def make():\n"
        "    return torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.Softmax(-1))\n"
    )
    save_file({"0.weight": torch.randn(4, 8), "0.bias": torch.randn(4)}, "w.safetensors")
    for reference in ("shop:make", "shop.py:make"):
        done = export_torch(reference, weights="w.safetensors", input_map=["input=f*"], **target)
    assert done.parity.rows == 300
    assert not done.published, "the same module by another way is the same content"
    save_file({"0.weight": torch.randn(4, 9)}, "other.safetensors")
    with pytest.raises(InputError, match="fit the module"):
        export_torch("shop:make", weights="other.safetensors", input_map=["input=f*"], **target)
    with pytest.raises(InputError, match="cannot be loaded"):
        export_torch("shop:nothing", input_map=["input=f*"], **target)


@pytest.mark.parametrize("exporter", ["dynamo", "legacy"])
def test_outputs_have_the_names_of_the_mapping(target, net, exporter):
    done = export_torch(net, input_map=FEATURES, exporter=exporter, **target)
    assert [o.name for o in contract(done).outputs] == ["embedding", "linear"]
    assert any("legacy" in note for note in done.notes) == (exporter == "legacy")
    assert contract(done).source == "torch"


def test_outputs_can_be_chosen_and_renamed(target, net):
    chosen = export_torch(net, input_map=FEATURES, outputs=["linear"], **target)
    assert [o.name for o in contract(chosen).outputs] == ["linear"]
    renamed = export_torch(net, input_map=FEATURES, outputs=["p", "h"], **target)
    assert [o.name for o in contract(renamed).outputs] == ["p", "h"]


def test_shapes_and_datatypes_come_from_the_columns_or_are_said(target):
    done = export_torch(Weighted(), input_shape=["w="], **target)
    found = {t.name: (t.datatype.name, t.shape) for t in contract(done).inputs}
    assert found == {"ids": ("INT64", (6,)), "w": ("FP32", ())}
    done = export_torch(Image(), input_shape=["image=3,8,8"], **target)
    assert [(o.name, o.shape) for o in contract(done).outputs] == [
        ("output_0", (4,)),
        ("output_1", ()),
    ]


@pytest.mark.parametrize("rows", [5, 64])
def test_a_buffer_with_a_batch_of_its_own_is_refused(target, rows):
    with pytest.raises(ModelError, match="batch"):
        export_torch(Fixed(rows), input_map=FEATURES, **target)


def test_rows_that_see_each_other_are_refused(target):
    with pytest.raises(ParityError, match="rows beside it"):
        export_torch(Leak(), input_map=FEATURES, **target)


def test_a_program_becomes_an_entry_if_its_batch_is_open(target, net):
    example = (torch.randn(3, 8),)
    batch = {"features": {0: torch.export.Dim.DYNAMIC}}
    program = torch.export.export(net.eval(), example, dynamic_shapes=batch)
    torch.export.save(program, "open.pt2")
    done = export_torch("open.pt2", input_map=FEATURES, outputs=["linear"], **target)
    assert [o.name for o in contract(done).outputs] == ["linear"]
    torch.export.save(torch.export.export(net.eval(), example), "fixed.pt2")
    with pytest.raises(ModelError, match="fixed batch of 3"):
        export_torch("fixed.pt2", input_map=FEATURES, **target)


def test_a_program_that_would_be_unpickled_is_refused(target, tmp_path):
    class Hostile:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    batch = {"features": {0: torch.export.Dim.DYNAMIC}}
    program = torch.export.export(Net().eval(), (torch.randn(3, 8),), dynamic_shapes=batch)
    torch.export.save(program, "good.pt2")
    import io  # noqa: PLC0415
    import zipfile  # noqa: PLC0415

    payload = io.BytesIO()
    torch.save(Hostile(), payload)
    with zipfile.ZipFile("good.pt2") as good, zipfile.ZipFile("bad.pt2", "w") as bad:
        for name in good.namelist():
            is_pickle = name.endswith("sample_inputs/model.pt")
            bad.writestr(name, payload.getvalue() if is_pickle else good.read(name))
    with pytest.raises(InputError, match="cannot be read"):
        export_torch("bad.pt2", input_map=FEATURES, **target)
    assert not (tmp_path / "ran").exists()


def test_pickled_weights_need_trust_and_are_opened_elsewhere(target, net, tmp_path):
    class Spy:
        def __reduce__(self):
            return (
                exec,
                (f"import os; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))",),
            )

    torch.save(net.state_dict() | {"spy": Spy()}, "w.pt")
    with pytest.raises(InputError, match="--trust-pickle"):
        export_torch(net, weights="w.pt", input_map=FEATURES, **target)
    assert not (tmp_path / "pid").exists()
    with pytest.raises(InputError, match="hold no state"):
        export_torch(net, weights="w.pt", trust_pickle=True, input_map=FEATURES, **target)
    import os  # noqa: PLC0415

    assert int((tmp_path / "pid").read_text()) != os.getpid()
    torch.save(net.state_dict(), "plain.pt")
    done = export_torch(net, weights="plain.pt", trust_pickle=True, input_map=FEATURES, **target)
    assert done.published
