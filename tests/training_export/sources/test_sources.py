"""Every kind of source, as a user hands it over; Stable-Baselines3 has a file of its own."""

from __future__ import annotations

import hashlib
import io
import pickle
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import skops.io
import torch
from msgspec import UNSET
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, PolynomialFeatures, StandardScaler
from tests_support import ROOT, command_here, registry_here

from carla_mlflow import Engine, open_artifact
from carla_mlflow.contract.action_card import Control
from carla_mlflow.contract.control import controller
from carla_mlflow.contract.field_card import FieldCard, Seen
from carla_mlflow.errors import ArtifactError, CardError, ExportError
from training_export.export.export import Export, export_policy
from training_export.graphs.graph import PolicyGraph, to_torchscript
from training_export.graphs.onnx_export import to_onnx_model
from training_export.graphs.onnx_file import OnnxFile
from training_export.sources.draft import ActionDraft, CardDraft, complete, read_draft
from training_export.sources.from_module import from_network, import_code
from training_export.sources.preprocessed import Preprocessed
from training_export.sources.source import Opened, SourceOptions, open_source

OLD, SPEC = ROOT / "tests/data/v1.2.0", ROOT / "tests/data/v1.2.0-spec.yaml"
OBSERVATION = """
observation:
  speed:   {dtype: float32, shape: [], low: 0, high: 60, unit: m/s}
  sensors: {dtype: float32, shape: [3], low: 0, high: 1}
"""
ACTION = """
action:
  head: HEAD
  raw: {steer: [-1, 1], acceleration: [-1, 2]}
  control: acceleration_steer
  full_throttle: 2.0
  full_brake: -1.0
"""
MODULE = """
import torch
from gymnasium import spaces
from torch import nn

class Named(nn.Module):
    def __init__(self, outputs: int = 2):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, outputs))
    def forward(self, speed: torch.Tensor, sensors: torch.Tensor) -> torch.Tensor:
        return self.layers(torch.cat([speed.unsqueeze(1) / 60.0, sensors], dim=1))

class Features(nn.Module):
    def __init__(self, width: int = 4):
        super().__init__()
        torch.manual_seed(1)
        self.layers = nn.Sequential(nn.Linear(width, 16), nn.Tanh(), nn.Linear(16, 2))
    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.layers(features)

OBSERVATIONS = spaces.Dict(speed=spaces.Box(0, 60, ()), sensors=spaces.Box(0, 1, (3,)))
ACTIONS = spaces.Dict(steer=spaces.Box(-1, 1, ()), acceleration=spaces.Box(-1, 1, ()))
IN_OTHER_UNITS = spaces.Dict(steer=spaces.Box(-1, 1, ()), acceleration=spaces.Box(-1, 2, ()))

def build(): return Named()
def build_with_spaces(): return Named(), OBSERVATIONS, ACTIONS
def build_in_other_units(): return Named(), OBSERVATIONS, IN_OTHER_UNITS
def build_with_a_box(): return Named(), OBSERVATIONS, spaces.Box(-1, 1, (2,))
def build_with_choices(): return Named(3), OBSERVATIONS, spaces.Discrete(3)
def build_features(): return Features()
def build_wide_features(): return Features(15)
"""


@pytest.fixture
def author(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MODULE)
    write_card("deterministic")
    return tmp_path


def write_card(head: str) -> None:
    Path("card.yaml").write_text(OBSERVATION + ACTION.replace("HEAD", head))


def opened_from(source: str, **given) -> Opened:
    return open_source(SourceOptions(source, **({"card": Path("card.yaml")} | given)))


def export(source: str, **given) -> Export:
    opened = opened_from(source, **given)
    exported = export_policy(opened.trained, "mine", "1.0.0", "")
    print(opened.kind, {name: f"{value:.1e}" for name, value in exported.differences.items()})
    return exported


def module(name: str) -> torch.nn.Module:
    return getattr(import_code("mine.py"), name)().eval()


def rows(count: int = 1000) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "speed": rng.uniform(0, 60, count).astype(np.float32),
        "sensors": rng.random((count, 3), dtype=np.float32),
    }


def test_gymnasium_spaces_stand_in_for_a_card(author: Path):
    card = export("mine.py:build_with_spaces", card=None).artifact.card
    assert card.format == 1
    assert {name: (field.shape, field.low, field.high) for name, field in card.observation.items()} == {
        "speed": ([], 0, 60),
        "sensors": ([3], 0, 1),
    }
    assert (card.action.control, card.action.head) == ("acceleration_steer", "deterministic")
    assert card.action.raw == {"steer": (-1, 1), "acceleration": (-1, 1)}


SCALED = "full_throttle: 4.0, full_brake: -2.0"


def test_bounds_other_than_those_of_a_control_have_to_be_explained(author: Path):
    with pytest.raises(
        CardError, match=r"acceleration has the bounds \[-1, 2\].* no full_throttle and no full_brake"
    ) as e:
        export("mine.py:build_in_other_units", card=None)
    assert "add to the card's `action:` the raw values for which the environment applies full throttle" in str(e.value)
    Path("half.yaml").write_text("action: {control: acceleration_steer, full_throttle: 4.0, head: deterministic}")
    with pytest.raises(CardError, match="the card has no full_brake to say which raw value"):
        export("mine.py:build_in_other_units", card=Path("half.yaml"))
    Path("said.yaml").write_text(f"action: {{control: acceleration_steer, head: deterministic, {SCALED}}}")
    exported = export("mine.py:build_in_other_units", card=Path("said.yaml"))
    card = exported.artifact.card
    assert (card.format, card.action.full_throttle, card.action.full_brake) == (2, 4.0, -2.0)
    raw, control = exported.engine.act(rows()).raw, exported.engine.act(rows()).control
    np.testing.assert_allclose(control[:, 0], np.clip(raw[:, 1] / 4, 0, 1), rtol=1e-6)
    np.testing.assert_allclose(control[:, 1], np.clip(raw[:, 1] / -2, 0, 1), rtol=1e-6)
    golden = exported.engine.golden
    np.testing.assert_array_equal(golden.action, controller(card.action)(golden.raw))


@pytest.mark.parametrize(
    ("control", "raw", "complaint"),
    [
        ("acceleration_steer", {"acceleration": [-3, 3], "steer": [-1, 1]}, "no full_throttle and no full_brake"),
        ("acceleration_steer", {"acceleration": [-1, 1], "steer": [-0.3, 0.3]}, "no full_right"),
        ("acceleration_steer", {"acceleration": [0, 1], "steer": [-1, 1]}, "no full_throttle and no full_brake"),
        ("throttle_brake_steer", {"throttle": [0, 1], "brake": [-1, 1], "steer": [-1, 1]}, "no full_brake"),
        ("throttle_brake_steer", {"throttle": [0, 0.5], "brake": [0, 1], "steer": [-1, 1]}, "no full_throttle"),
    ],
)
def test_bounds_wider_or_narrower_than_a_controls_are_refused_alike(control: str, raw: dict, complaint: str):
    bounds = {name: (float(low), float(high)) for name, (low, high) in raw.items()}
    with pytest.raises(CardError, match=complaint):
        complete(ActionDraft(control, bounds, "deterministic"))
    fulls = {"full_throttle": 3.0, "full_brake": -3.0 if "acceleration" in raw else 1.0, "full_right": 0.3}
    assert complete(ActionDraft(control, bounds, "deterministic", **fulls)).full_right == 0.3


def test_a_scale_that_is_the_usual_anyway_changes_no_contract():
    bounds = {"acceleration": (-1.0, 1.0), "steer": (-1.0, 1.0)}
    plain = complete(ActionDraft("acceleration_steer", bounds, "gaussian"))
    said = {"full_throttle": 1.0, "full_brake": -1.0, "full_right": 1.0}
    assert complete(ActionDraft("acceleration_steer", bounds, "gaussian", **said)) == plain
    assert complete(ActionDraft("acceleration_steer", bounds, "gaussian", full_right=-1.0)).full_right == -1.0
    narrow = {**bounds, "steer": (-0.3, 0.3)}
    assert complete(ActionDraft("acceleration_steer", narrow, "gaussian", **said)).full_right == 1.0


def test_a_table_has_no_raw_values_to_scale():
    table = [Control(1, 0, 0), Control(0, 1, 0)]
    with pytest.raises(CardError, match=r"action\.full_brake: control: table has no raw value to scale"):
        complete(ActionDraft("table", head="categorical", table=table, full_brake=1.0))


def test_a_box_of_actions_has_bounds_but_needs_names(author: Path):
    with pytest.raises(CardError, match="pass --card"):
        export("mine.py:build_with_a_box", card=None)
    section = "{head: deterministic, raw: [steer, acceleration], control: acceleration_steer}"
    Path("names.yaml").write_text(f"action: {section}")
    action = opened_from("mine.py:build_with_a_box", card=Path("names.yaml")).trained.action
    assert action.raw == {"steer": (-1, 1), "acceleration": (-1, 1)}
    with pytest.raises(CardError, match="are not the source's own"):
        opened_from("mine.py:build_with_a_box")


def test_a_discrete_space_needs_a_table_of_as_many_controls(author: Path):
    table = "{throttle: 1, brake: 0, steer: 0}, {throttle: 0, brake: 1, steer: 0}"
    Path("two.yaml").write_text(f"action: {{control: table, table: [{table}]}}")
    with pytest.raises(CardError, match="source's own"):
        export("mine.py:build_with_choices", card=Path("two.yaml"))
    Path("three.yaml").write_text(f"action: {{control: table, table: [{table}, {{throttle: 0, brake: 0, steer: 1}}]}}")
    opened = opened_from("mine.py:build_with_choices", card=Path("three.yaml"))
    assert opened.trained.action.head == "categorical"


@pytest.mark.parametrize("save", ["script", "trace"])
def test_a_torchscript_file_acts_as_it_did(author: Path, save: str):
    network = module("Named")
    example = tuple(torch.from_numpy(array) for array in rows(2).values())
    made = torch.jit.script(network) if save == "script" else torch.jit.trace(network, example)
    torch.jit.save(made, "network.pt")
    exported = export("network.pt")
    assert exported.differences["torchscript"] < 1e-6
    assert "TorchScript" in exported.left_out["onnx"]
    with torch.no_grad():
        trained = network(*(torch.from_numpy(array) for array in rows().values())).numpy()
    np.testing.assert_allclose(exported.engine.act(rows()).raw, np.clip(trained, -1, [1, 2]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("head", "outputs"), [("deterministic", 2), ("squashed_gaussian", 4), ("beta", 4)])
def test_an_onnx_file_gets_its_head_and_acts_as_it_did(author: Path, head: str, outputs: int):
    class Listed(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(3)
            self.layers = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.Tanh(), torch.nn.Linear(16, outputs))

        def forward(self, inputs: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
            x = self.layers(torch.cat([inputs[0].unsqueeze(1) / 60.0, inputs[1]], dim=1))
            return torch.chunk(torch.nn.functional.softplus(x), outputs // 2, dim=1)

    example = tuple(torch.from_numpy(array) for array in rows(3).values())
    names = [f"out{i}" for i in range(outputs // 2)]
    Path("network.onnx").write_bytes(to_onnx_model(Listed(), example, ["speed", "sensors"], names).SerializeToString())
    write_card(head)
    exported = export("network.onnx")
    assert exported.artifact.backends == ("onnx",)
    assert exported.differences["onnx"] < 1e-6
    assert exported.artifact.card.weights.startswith("sha256:")


def test_an_onnx_file_that_does_not_fit_its_card_is_said_so(author: Path):
    for width, error, complaint in (
        (5, ArtifactError, "takes x and gives y, but the card says speed, sensors"),
        (4, ExportError, r"returns shapes \[\(2, 4\)\]; the card's head needs raw \(B, 2\)"),
    ):
        taken, given = (
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["rows", width]) for name in ("x", "y")
        )
        graph = onnx.helper.make_graph([onnx.helper.make_node("Add", ["x", "x"], ["y"])], "twice", [taken], [given])
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8)
        Path("other.onnx").write_bytes(model.SerializeToString())
        with pytest.raises(error, match=complaint):
            export("other.onnx")


class Fixed(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.layers = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.Tanh(), torch.nn.Linear(16, 2))

    def forward(self, speed: torch.Tensor, sensors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.layers(torch.cat([speed.unsqueeze(1) / 60.0, sensors], dim=1))
        return x, x.sum(dim=1, keepdim=True)


class FixedInside(Fixed):
    def forward(self, speed: torch.Tensor, sensors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x, value = super().forward(speed, sensors)
        return torch.cat([x, torch.ones(1, 2)], dim=1) @ torch.ones(4, 2), value  # only one row fits beside the ones


def save_fixed(network: torch.nn.Module, outputs: list[str], path: str = "network.onnx") -> None:
    """As Stable-Baselines3's guide has it: a batch of one row, and the value beside the action."""
    example = tuple(torch.from_numpy(array) for array in rows(1).values())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        torch.onnx.export(
            network, example, path, dynamo=True, input_names=["speed", "sensors"], output_names=outputs, verbose=False
        )


def test_an_onnx_file_for_one_row_with_more_outputs_than_the_head_needs_is_exported(author: Path):
    network = Fixed().eval()
    save_fixed(network, ["action", "value"])
    exported = export("network.onnx")
    with torch.no_grad():
        trained = network(*(torch.from_numpy(array) for array in rows().values()))[0].numpy()
    np.testing.assert_allclose(exported.engine.act(rows()).raw, np.clip(trained, -1, [1, 2]), rtol=1e-5, atol=1e-6)
    renamed = onnx.load("network.onnx")
    renamed.graph.output[0].name = "pedals"
    for node in renamed.graph.node:
        for names in (node.input, node.output):
            names[:] = ["pedals" if name == "action" else name for name in names]
    onnx.save(renamed, "network.onnx")
    with pytest.raises(
        ExportError, match=r"returns pedals, value; the card's head needs 1 of these, action: name them so"
    ):
        export("network.onnx")


def test_an_onnx_file_that_is_made_for_one_row_inside_is_told_how_to_export_it(author: Path):
    save_fixed(FixedInside().eval(), ["action", "value"])
    with pytest.raises(
        ExportError, match=r"network\.onnx: its batch size is fixed at 1, inside the graph too.*dynamic_axes"
    ):
        export("network.onnx")


def test_a_forward_that_takes_one_dict_of_the_observations_is_given_one(author: Path):
    Path("mine.py").write_text(
        MODULE + "class Dicts(Named):\n"
        "    def forward(self, obs):\n        return super().forward(obs['speed'], obs['sensors'])\n"
        "class Odd(Named):\n    def forward(self, obs, twice):\n        return obs['fog']\n"
        "def build_dict(): return Dicts()\ndef build_odd(): return Odd()\n"
    )
    exported = export("mine.py:build_dict")
    assert set(exported.differences) >= {"torchscript", "onnx"}, exported.left_out
    with torch.no_grad():
        trained = module("Named")(*(torch.from_numpy(array) for array in rows().values())).numpy()
    np.testing.assert_allclose(exported.engine.act(rows()).raw, np.clip(trained, -1, [1, 2]), rtol=1e-5, atol=1e-6)
    with pytest.raises(ExportError, match=r"mine\.py:build_odd: does not take .* or one dict of them by name"):
        export("mine.py:build_odd")


def test_a_policy_file_may_import_its_sibling_and_be_called_as_a_package_is(author: Path):
    folder = author / "lab"
    folder.mkdir()
    sibling = f"sibling_{hashlib.sha1(str(author).encode()).hexdigest()[:8]}"
    (folder / f"{sibling}.py").write_text(MODULE)
    (folder / "onnx.py").write_text(f"from {sibling} import build\n")
    exported = export("lab/onnx.py:build")
    assert set(exported.differences) >= {"torchscript", "onnx"}, exported.left_out
    (folder / "torch.py").write_text("import no_such_package_anywhere\n")
    with pytest.raises(
        ExportError, match=r"No module named 'no_such_package_anywhere'; put no_such_package_anywhere\.py"
    ):
        export("lab/torch.py:build")


def test_the_torchscript_file_is_written_as_it_is_used(author: Path):
    trained = opened_from("mine.py:build").trained
    example = tuple(torch.from_numpy(array) for array in rows(3).values())
    loaded = torch.jit.load(io.BytesIO(to_torchscript(trained.scripted, example)))
    assert not any(part.training for part in loaded.modules())
    answers = loaded(*(torch.from_numpy(array) for array in rows(2).values()))
    assert not any(answer.requires_grad for answer in answers)
    assert loaded.state_dict(), "not frozen: its weights can be read"


def test_the_authors_network_can_go_on_learning_after_its_export(author: Path):
    network = module("Named")
    action = complete(ActionDraft("acceleration_steer", {"acceleration": (-1, 1), "steer": (-1, 1)}, "deterministic"))
    to_torchscript(PolicyGraph(network, action), (torch.zeros(2), torch.zeros(2, 3)))
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_weights_that_an_older_exporter_lists_as_inputs_are_none():
    initializer = onnx.numpy_helper.from_array(np.ones((256, 2), np.float32), "weights")
    inputs = [
        onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 256]),
        onnx.helper.make_tensor_value_info("weights", onnx.TensorProto.FLOAT, [256, 2]),
    ]
    output = onnx.helper.make_tensor_value_info("action", onnx.TensorProto.FLOAT, [1, 2])
    node = onnx.helper.make_node("MatMul", ["x", "weights"], ["action"])
    graph = onnx.helper.make_graph([node], "listed", inputs, [output], [initializer])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8)
    file = OnnxFile(model.SerializeToString(), ("x",))
    assert file.batch == 1
    [answer] = file.opened().load()([np.ones((5, 256), np.float32)])
    assert (answer == np.full((5, 2), 256)).all()


def fitted(transformer):
    features = np.concatenate([array.reshape(1000, -1) for array in rows().values()], axis=1)
    return transformer.fit(features)


COLUMNS = ColumnTransformer([("speed", StandardScaler(), [0]), ("rest", MinMaxScaler(), [1, 2, 3])])


def test_a_preprocessor_that_lies_beside_a_network_and_is_not_named_is_told(author: Path):
    torch.jit.save(torch.jit.script(module("Named")), "network.pt")
    assert open_source(SourceOptions("network.pt", Path("card.yaml"))).trained.assumed == ""
    Path("my_preprocessor.pkl").touch()
    assumed = open_source(SourceOptions("network.pt", Path("card.yaml"))).trained.assumed
    assert assumed.startswith("no preprocessor, although my_preprocessor.pkl lies beside it; --preprocessor FILE")


@pytest.mark.parametrize("transformer", [StandardScaler(), make_pipeline(COLUMNS, MinMaxScaler())], ids=["one", "many"])
def test_a_preprocessor_that_can_be_translated_goes_into_the_graph(author: Path, transformer):
    Path("scaler.skops").write_bytes(skops.io.dumps(fitted(transformer)))
    exported = export("mine.py:build_features", preprocessor=Path("scaler.skops"))
    card = exported.artifact.card
    assert card.preprocessing.in_graph
    assert card.preprocessing.source == "preprocessor.skops"
    assert set(exported.differences) >= {"torchscript", "onnx"}
    features = transformer.transform(
        np.concatenate([a.reshape(1000, -1) for a in rows().values()], axis=1).astype(np.float64)
    )
    with torch.no_grad():
        trained = module("Features")(torch.from_numpy(features.astype(np.float32))).numpy()
    np.testing.assert_allclose(exported.engine.act(rows()).raw, np.clip(trained, -1, [1, 2]), rtol=1e-5, atol=1e-6)


def test_a_preprocessor_without_a_translation_runs_outside_the_graph(author: Path):
    Path("scaler.skops").write_bytes(skops.io.dumps(fitted(PolynomialFeatures(2))))
    exported = export("mine.py:build_wide_features", preprocessor=Path("scaler.skops"))
    assert not exported.artifact.card.preprocessing.in_graph
    assert set(exported.differences) >= {"torchscript", "onnx"}


def test_a_class_of_the_users_own_runs_when_the_operator_trusts_it(author: Path, monkeypatch: pytest.MonkeyPatch):
    name = f"own_{hashlib.sha1(str(author).encode()).hexdigest()[:8]}"
    Path(f"{name}.py").write_text(
        "from sklearn.preprocessing import StandardScaler\nclass Clipper(StandardScaler):\n"
        "    def transform(self, X, copy=None):\n        return super().transform(X, copy).clip(-1, 1)\n"
    )
    monkeypatch.syspath_prepend(str(author))
    own = __import__(name)
    monkeypatch.setitem(sys.modules, name, own)
    Path("own.skops").write_bytes(skops.io.dumps(fitted(own.Clipper())))
    with pytest.raises(ArtifactError, match="--trust-types"):
        export("mine.py:build_features", preprocessor=Path("own.skops"))
    types = (f"{name}.Clipper",)
    exported = export("mine.py:build_features", preprocessor=Path("own.skops"), trust_types=types)
    assert not exported.artifact.card.preprocessing.in_graph
    with pytest.raises(ArtifactError, match="not trusted"):
        Engine(exported.artifact, "cpu")
    assert np.isfinite(Engine(exported.artifact, "cpu", trusted=types).act(rows()).control).all()


@pytest.mark.parametrize(
    ("transformer", "complaint"),
    [
        (lambda: StandardScaler(), "never fitted"),
        (lambda: StandardScaler().fit(np.zeros((2, 5))), "fitted on 5 features, the observation has 4"),
    ],
)
def test_a_preprocessor_that_does_not_fit_is_refused(author: Path, transformer, complaint: str):
    Path("scaler.pkl").write_bytes(pickle.dumps(transformer()))
    with pytest.raises(ExportError, match="--trust-pickle"):
        export("mine.py:build_features", preprocessor=Path("scaler.pkl"))
    with pytest.raises(ExportError, match=complaint):
        export("mine.py:build_features", preprocessor=Path("scaler.pkl"), trust_pickle=True)


def test_an_old_artifact_is_migrated_beside_the_old_one(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    before = {path.name: path.read_bytes() for path in OLD.iterdir()}
    arguments = ["migrate", str(OLD), "--observation", str(SPEC), "--output", str(tmp_path / "new")]
    assert registry_here(*arguments).code == 1
    assert "--trust-pickle" in capfd.readouterr().err  # it runs carla-export, a process of its own
    assert list(tmp_path.iterdir()) == []
    assert registry_here(*arguments, "--trust-pickle").code == 0, capfd.readouterr().err
    assert {path.name: path.read_bytes() for path in OLD.iterdir()} == before
    artifact = open_artifact(tmp_path / "new")
    assert (artifact.card.name, artifact.card.version) == ("carla-ppo", "1.2.0")
    assert (artifact.card.format, artifact.card.observation["speed"].seen) == (2, Seen(0.0, 60.0))  # by its scaler
    old = torch.jit.load(str(OLD / "model.pt")).eval()
    observations = {spec.name: spec.sample(np.random.default_rng(0), 1000) for spec in artifact.card.observation_spec}
    flat = np.concatenate([array.reshape(1000, -1) for array in observations.values()], axis=1).astype(np.float64)
    features = pickle.loads((OLD / "preprocessor.pkl").read_bytes()).transform(flat).astype(np.float32)
    with torch.no_grad():
        trained = old(torch.from_numpy(features)).numpy()
    np.testing.assert_allclose(Engine(artifact, "cpu").act(observations).control, trained, rtol=1e-5, atol=1e-6)


def test_an_old_artifact_needs_its_specs(tmp_path: Path):
    done = command_here("carla-export", str(OLD), "--output", str(tmp_path / "new"), "--trust-pickle")
    assert done.code == 1
    assert "the old layout does not record observation specs" in done.err


def test_a_pickle_is_not_read_before_it_is_trusted(tmp_path: Path):
    class Canary:
        def __reduce__(self):
            return (open, (str(tmp_path / "canary"), "w"))

    old = tmp_path / "v1.0.0"
    old.mkdir()
    (old / "model.pt").write_bytes((OLD / "model.pt").read_bytes())
    (old / "preprocessor.pkl").write_bytes(pickle.dumps(Canary()))
    done = command_here("carla-export", str(old), "--card", str(SPEC), "--output", str(tmp_path / "new"))
    assert done.code == 1
    assert "runs code that its author chose" in done.err
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("policy.tar", "expected .zip"),
        ("network.pt", "not a TorchScript"),
        ("network.onnx", "not an ONNX model"),
    ],
)
def test_a_file_of_another_kind_is_told_what_was_expected(author: Path, name: str, complaint: str):
    Path(name).write_bytes(b"something else")
    with pytest.raises((ExportError, ArtifactError), match=complaint):
        export(name)


def test_an_artifact_of_this_format_is_no_source(example: Path, tmp_path: Path):
    done = command_here("carla-export", str(example), "--output", str(tmp_path / "again"))
    assert done.code == 1
    assert "already is a policy artifact" in done.err


@pytest.mark.parametrize(
    ("name", "history", "complaint"),
    [
        ("raw", UNSET, "observation.raw: this name is used inside the graph; choose another one .*`source: raw`"),
        ("features", UNSET, "observation.features: this name is used inside"),
        ("speed", [-1, 0], "observation.speed.history_start: expected repeat or zeros"),
    ],
)
def test_an_observation_that_no_card_may_have_is_refused_before_the_export(name: str, history: Any, complaint: str):
    section = {name: FieldCard("float32", [2], -1, 1, history=history)}
    action = complete(ActionDraft("acceleration", {"acceleration": (-1, 1)}, head="deterministic"))
    trained = from_network("toy", torch.nn.Linear(2, 1), CardDraft(), section, action, Preprocessed())
    with pytest.raises(CardError, match=complaint):
        export_policy(trained, "toy", "1.0.0", "")


@pytest.mark.parametrize("value", ["choices: [ON, OFF]", "choices: {gear: [low, on]}", "fallback: {choice: no}"])
def test_words_that_yaml_reads_as_true_or_false_are_to_be_quoted(tmp_path: Path, value: str):
    (tmp_path / "card.yaml").write_text(f"action: {{control: named, {value}}}")
    with pytest.raises(CardError, match=r"got `bool` .*: write such a word in quotes"):
        read_draft(tmp_path / "card.yaml")
