"""Networks' files as robot learning's exporters write them, with a card that says the action alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from carla_mlflow.errors import CardError, ExportError
from training_export.export.export import Export, export_policy
from training_export.sources.source import SourceOptions, open_source

WIDTH = 6
ACTION = "action: {head: deterministic, control: acceleration_steer, raw: {acceleration: [-1, 1], steer: [-1, 1]}}\n"
NAMED = "observation: {speed: {dtype: float32, shape: []}, beams: {dtype: float32, shape: [5]}}\n"
MEAN, STD = np.arange(WIDTH, dtype=np.float32)[None], np.arange(1, WIDTH + 1, dtype=np.float32)[None]
WEIGHT = np.random.default_rng(0).normal(size=(WIDTH, 2)).astype(np.float32) / 3


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("card.yaml").write_text(ACTION)
    return tmp_path


def export(source: str, card: str = "card.yaml") -> Export:
    return export_policy(open_source(SourceOptions(source, Path(card))).trained, "mine", "1.0.0", "")


def rows() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(1000, WIDTH)).astype(np.float32) * 5


def expected(observed: np.ndarray) -> np.ndarray:
    return np.clip((observed - MEAN) / STD @ WEIGHT, -1, 1)


def save_onnx(nodes: list, constants: dict[str, np.ndarray], outside: bool = False, **more: list) -> None:
    """A normaliser of `obs` that gives `normal`, then the nodes, which give `actions`; for one row, as rsl_rl's."""
    constants = {"mean": MEAN, "std": STD, "weight": WEIGHT, **constants}
    before = [helper.make_node("Sub", ["obs", "mean"], ["less"]), helper.make_node("Div", ["less", "std"], ["normal"])]
    inputs = {"obs": [1, WIDTH], **more.get("inputs", {})}
    outputs = {"actions": [1, 2], **more.get("outputs", {})}
    values = [[helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in v.items()] for v in (inputs, outputs)]
    weights = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph([*before, *nodes], "policy", *values, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    kept = {"save_as_external_data": True, "location": "policy.onnx.data", "size_threshold": 0} if outside else {}
    onnx.save_model(model, "policy.onnx", **kept)


PLAIN = [helper.make_node("MatMul", ["normal", "weight"], ["actions"])]
RESHAPED = [  # to [1, 2, 3] and back, as for a distribution's parameters
    helper.make_node("Reshape", ["normal", "inner"], ["parts"]),
    helper.make_node("Reshape", ["parts", "outer"], ["row"], allowzero=1),
    helper.make_node("MatMul", ["row", "weight"], ["actions"]),
]
SHAPES = {"inner": np.array([1, 2, 3]), "outer": np.array([1, 6])}
MIXED = [  # runs with more rows than one, but a row's answer then depends on the others
    helper.make_node("ReduceMax", ["normal", "axes"], ["largest"], keepdims=1),
    helper.make_node("MatMul", ["largest", "weight"], ["one"]),
    helper.make_node("MatMul", ["normal", "weight"], ["all"]),
    helper.make_node("Sub", ["all", "one"], ["actions"]),
]


@pytest.mark.parametrize("nodes", [PLAIN, RESHAPED], ids=["plain", "reshaped"])
def test_an_onnx_file_for_one_row_of_obs_needs_no_observation_section(nodes: list):
    save_onnx(nodes, SHAPES if nodes is RESHAPED else {}, outside=True)
    assert Path("policy.onnx.data").is_file()
    exported = export("policy.onnx")
    [(name, field)] = exported.artifact.card.observation.items()
    assert (name, field.dtype, field.shape, field.low, field.high) == ("obs", "float32", [WIDTH], None, None)
    np.testing.assert_allclose(field.seen.low, (MEAN - 5 * STD)[0], rtol=1e-6)
    np.testing.assert_allclose(exported.engine.act({"obs": rows()}).raw, expected(rows()), rtol=1e-5, atol=1e-6)


def test_an_onnx_file_whose_rows_would_depend_on_each_other_is_refused(capfd: pytest.CaptureFixture[str]):
    save_onnx(MIXED, {"axes": np.array([0])})
    with pytest.raises(ExportError, match=r"policy\.onnx: its batch size is fixed at 1, inside the graph too.*dynamic"):
        export("policy.onnx")
    assert capfd.readouterr().err == "", "ONNX Runtime says nothing of its own"


def test_weights_beside_an_onnx_file_are_read_only_from_a_plain_file_there(folder: Path):
    save_onnx(PLAIN, {}, outside=True)
    Path("policy.onnx.data").rename("elsewhere")
    with pytest.raises(
        ExportError, match=r"keeps its weights in policy\.onnx\.data, which is not beside it: copy both"
    ):
        export("policy.onnx")
    Path("policy.onnx.data").symlink_to("elsewhere")
    with pytest.raises(ExportError, match="only a plain file beside it is read"):
        export("policy.onnx")
    Path("policy.onnx.data").unlink()
    Path("policy.onnx.data").write_bytes(b"short")
    with pytest.raises(ExportError, match=r"its weights in policy\.onnx\.data can't be read"):
        export("policy.onnx")
    model = onnx.load_model("policy.onnx", load_external_data=False)
    for tensor in model.graph.initializer:
        tensor.external_data[0].value = "../elsewhere"
    Path("policy.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ExportError, match=r"keeps its weights in '\.\./elsewhere'; only a plain file"):
        export("policy.onnx")


def test_an_onnx_file_that_takes_and_returns_its_memory_is_refused():
    memory = {"inputs": {"h_in": [1, 1, 2]}, "outputs": {"h_out": [1, 1, 2]}}
    save_onnx([*PLAIN, helper.make_node("Tanh", ["h_in"], ["h_out"])], {}, **memory)
    for card in ("card.yaml", "named.yaml"):
        Path("named.yaml").write_text(ACTION + "observation: {obs: {dtype: float32, shape: [6]}}\n")
        with pytest.raises(ExportError, match=r"takes and returns a memory beside the observations \(h_in\); write a "):
            export("policy.onnx", card)


def test_an_onnx_input_that_no_observation_can_be_asks_for_the_card():
    save_onnx(PLAIN, {})
    model = onnx.load_model("policy.onnx")
    model.graph.input[0].name = model.graph.node[0].input[0] = "obs/0"
    onnx.save_model(model, "policy.onnx")
    with pytest.raises(CardError, match=r"its input 'obs/0' tells no observation.*pass --card FILE"):
        export("policy.onnx")


class Normaliser(nn.Module):
    """With the buffers of rsl_rl's EmpiricalNormalization."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("_mean", torch.from_numpy(MEAN.copy()))
        self.register_buffer("_std", torch.from_numpy(STD.copy()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x - self._mean) / self._std


class Actor(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.normaliser = Normaliser()
        self.actor = nn.Linear(WIDTH, 2, bias=False)
        self.actor.weight.data = torch.from_numpy(WEIGHT.T.copy())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.actor(self.normaliser(x))

    @torch.jit.export
    def reset(self) -> None:
        pass


class Recurrent(Actor):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("hidden_state", torch.zeros(1, WIDTH))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.hidden_state[:] = torch.tanh(self.hidden_state + self.normaliser(x))
        return self.actor(self.hidden_state)

    @torch.jit.export
    def reset(self) -> None:
        self.hidden_state[:] = 0.0


def test_a_torchscript_file_of_one_vector_needs_no_observation_section():
    torch.jit.script(Actor().eval()).save("policy.pt")
    exported = export("policy.pt")
    field = exported.artifact.card.observation["obs"]
    assert (field.shape, field.low, field.high) == ([WIDTH], None, None)
    np.testing.assert_allclose(field.seen.high, (MEAN + 5 * STD)[0], rtol=1e-6)
    np.testing.assert_allclose(exported.engine.act({"obs": rows()}).raw, expected(rows()), rtol=1e-5, atol=1e-6)


def test_what_the_file_says_of_its_observation_is_told_unless_the_card_says_it():
    torch.jit.script(Actor().eval()).save("policy.pt")
    assert open_source(SourceOptions("policy.pt", Path("card.yaml"))).trained.assumed.startswith(
        "obs float32[6], as the"
    )
    Path("policy_scaler.pkl").touch()
    both = open_source(SourceOptions("policy.pt", Path("card.yaml"))).trained.assumed
    assert "obs float32[6]" in both
    assert "no preprocessor, although policy_scaler.pkl lies beside it" in both
    Path("policy_scaler.pkl").unlink()
    Path("card.yaml").write_text(ACTION + NAMED)
    assert open_source(SourceOptions("policy.pt", Path("card.yaml"))).trained.assumed == ""


def test_a_card_may_name_the_parts_of_one_vector():
    Path("card.yaml").write_text(ACTION + NAMED)
    torch.jit.script(Actor().eval()).save("policy.pt")
    save_onnx(RESHAPED, SHAPES)
    Path("actor.py").write_text("import torch\ndef build(): return torch.jit.load('policy.pt')\n")
    observed = {"speed": rows()[:, 0], "beams": rows()[:, 1:]}
    for source in ("policy.pt", "policy.onnx", "actor.py:build"):
        exported = export(source)
        np.testing.assert_allclose(exported.engine.act(observed).raw, expected(rows()), rtol=1e-5, atol=1e-6)
        seen = exported.artifact.card.observation["speed"].seen
        assert (seen.low, seen.high) == (-5.0, 5.0), source


def test_a_torchscript_file_that_keeps_its_memory_inside_is_refused_with_a_remedy():
    torch.jit.script(Recurrent().eval()).save("policy.pt")
    with pytest.raises(
        ExportError, match=r"policy\.pt: keeps a memory inside itself \(hidden_state\).*build\(\).*state:"
    ):
        export("policy.pt")


def test_a_checkpoint_without_its_network_is_told_from_a_damaged_file():
    torch.save({"actor_state_dict": Actor().state_dict()}, "model_1499.pt")
    with pytest.raises(ExportError, match=r"model_1499\.pt: holds weights, as torch\.save writes them.*build\(\)"):
        export("model_1499.pt")


def test_a_torchscript_file_of_several_observations_asks_for_the_card():
    class Two(nn.Module):
        def forward(self, speed: torch.Tensor, beams: torch.Tensor) -> torch.Tensor:
            return torch.stack([speed, beams.sum(1)], dim=1)

    torch.jit.script(Two()).save("policy.pt")
    with pytest.raises(CardError, match=r"an observation section, for what its forward\(speed, beams\) takes"):
        export("policy.pt")


def test_a_network_may_return_a_parameter_as_its_standard_deviation():
    Path("actor.py").write_text(
        "import torch\nfrom torch import nn\n"
        "class Gaussian(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.mean, self.std = nn.Linear(6, 2), nn.Parameter(torch.ones(2))\n"
        "    def forward(self, obs):\n"
        "        mean = self.mean(obs)\n"
        "        return mean, self.std.expand_as(mean)\n"
        "def build(): return Gaussian()\n"
    )
    Path("card.yaml").write_text(ACTION.replace("deterministic", "gaussian") + NAMED)
    exported = export("actor.py:build")
    assert set(exported.differences) >= {"torchscript", "onnx"}, exported.left_out
