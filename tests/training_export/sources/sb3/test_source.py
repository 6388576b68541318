from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stable_baselines3 as sb3
import torch
from msgspec.structs import replace
from sb3_policies import CASES, CHOOSE, DRIVE, Trainer

from carla_mlflow.contract.array_spec import ArraySpec
from carla_mlflow.contract.field_card import FieldCard, Seen, observation_spec
from carla_mlflow.errors import CardError
from training_export.export.compared import compared_batches
from training_export.export.export import export_policy
from training_export.graphs.graph import to_torchscript
from training_export.graphs.onnx_export import to_onnx
from training_export.sources.draft import ActionDraft, CardDraft
from training_export.sources.from_file import load_script
from training_export.sources.observation_spaces import sources_of
from training_export.sources.sb3.source import from_sb3
from training_export.sources.seen import unknown


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    return Trainer(tmp_path_factory.mktemp("sb3"))


def observations(specs: Any, rows: int = 1000) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)

    def draw(spec: ArraySpec) -> np.ndarray:
        if spec.dtype == "float32" and spec.low is None:
            return rng.normal(0, 3, (rows, *spec.shape)).astype(np.float32)
        drawn = np.concatenate([spec.sample(rng, rows // 2), spec.corners(rng, rows - rows // 2)])
        if len(spec.shape) < 3:
            return drawn
        brightness = rng.random((rows, 1, 1, 1))  # noise alone looks the same to a network, image after image
        return (drawn * brightness).astype(np.uint8)

    return {spec.name: draw(spec) for spec in specs}


def run_onnx(data: bytes, rows: dict[str, np.ndarray]) -> list[np.ndarray]:
    import onnxruntime

    return onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"]).run(None, rows)


FAST = {"ppo-mixed", "ppo-squashed-gsde", "a2c-gsde", "a2c-flags", "ppo-switches", "td3", "dqn", "ppo-image", "ars"}
"""Cases that are not slow: one of each kind of head, network, observation and normalisation."""


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in FAST else [pytest.mark.slow]) for n in CASES])
def test_the_exported_graphs_act_as_stable_baselines3_does(trained: Trainer, tmp_path: Path, name: str):
    given = trained(name)
    found = from_sb3(given.path, given.draft, given.vecnormalize, trust_pickle=True)
    specs = observation_spec(found.observation)
    rows = observations(specs)
    sources = sources_of(found.observation)
    seen: Any = rows.get("observation", {sources[field]: array for field, array in rows.items()})
    if given.statistics is not None:
        seen = given.statistics.normalize_obs(seen)
    wanted = given.model.predict(seen, deterministic=True)[0].reshape(1000, -1)
    assert wanted.std(axis=0).min() > 0.02, "the policy does something"
    golden = found.answer(rows)
    np.testing.assert_array_equal(golden.raw, wanted.astype(np.float32))
    if found.values is not None:
        np.testing.assert_array_equal(found.values(rows).argmax(axis=1), wanted[:, 0])
    assert (found.values is not None) == (given.case.algorithm in {"DQN", "QRDQN"})

    examples = tuple(torch.from_numpy(array) for array in specs.example(3).values())
    (tmp_path / "model.pt").write_bytes(to_torchscript(found.graph, examples))
    onnx = to_onnx(found.graph, examples, specs.names)
    with torch.no_grad():
        scripted = load_script(tmp_path / "model.pt")(*(torch.from_numpy(array) for array in rows.values()))
    expected = [wanted, *golden.distribution.values()]
    for backend, outputs in {"torch": [o.numpy() for o in scripted], "onnx": run_onnx(onnx, rows)}.items():
        assert len(outputs) == len(expected)
        print(name, backend, *(f"{np.abs(a - b).max():.1e}" for a, b in zip(outputs, expected, strict=True)))
        for got, want in zip(outputs, expected, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_a_policy_from_a_zip_becomes_an_artifact_for_both_backends(trained: Trainer):
    given = trained("sac")
    found = from_sb3(given.path, replace(given.draft, training={"track": "oval"}), given.vecnormalize, True)
    versions = {"stable-baselines3": sb3.__version__, "torch": torch.__version__}
    assert found.training == {"track": "oval", "algorithm": "SAC", "versions": versions, "steps": 64, "seed": 7}
    assert found.action.raw == {"acceleration": (-3.0, 2.0), "steer": (-0.7, 0.7)}
    assert found.action.rate_hz == 10
    exported = export_policy(found, "toy", "1.0.0", "")
    assert exported.engines.keys() >= {"torchscript", "onnx"}
    print("the whole way", exported.differences)


@pytest.mark.parametrize("name", ["dqn-open", "sac-open", "td3-open"])
def test_a_space_with_open_elements_is_compared_where_training_was(trained: Trainer, name: str):
    given = trained(name)
    found = from_sb3(given.path, given.draft, given.vecnormalize, trust_pickle=True)
    field = found.observation["observation"]
    assert field.low == [pytest.approx(-4.8), None, pytest.approx(-0.42), None]
    assert field.high == [pytest.approx(4.8), None, pytest.approx(0.42), None]
    specs = observation_spec(found.observation)
    rows = np.concatenate([batch["observation"] for batch in compared_batches(specs, None)])
    if given.statistics is None:
        assert unknown(found.observation) == ["observation[1]", "observation[3]"]
        assert np.abs(rows[:, [1, 3]]).max() == 10
    else:
        assert unknown(found.observation) == []
        reach = np.abs(given.statistics.obs_rms.mean) + 5 * np.sqrt(given.statistics.obs_rms.var)
        assert (np.abs(rows[:, [1, 3]]).max(axis=0) <= reach[[1, 3]] * 1.0001).all()
    if name != "sac-open":  # the other graphs' exports are compared above
        return
    artifact = export_policy(found, "toy", "1.0.0", "").artifact
    assert (artifact.card.format, artifact.backends) == (2, ("torchscript", "onnx"))


def test_the_card_may_tell_more_of_the_observation_than_its_space_but_nothing_else(trained: Trainer):
    given = trained("ppo-mixed")
    speed, camera = FieldCard("float32", [2], 0, 50, "m/s"), FieldCard("uint8", [3, 36, 36])
    found = from_sb3(
        given.path, replace(DRIVE, observation={"speed": speed, "camera": camera}), given.vecnormalize, True
    )
    # The statistics' reach, mean and five standard deviations of uniform values, is cut at the card's bounds.
    assert found.observation == {"speed": replace(speed, seen=Seen(0.0, 50.0)), "camera": camera}
    rows = observations(observation_spec(found.observation), 8)
    raw = found.graph(*(torch.from_numpy(array) for array in rows.values()))[0]
    np.testing.assert_allclose(raw.detach(), found.answer(rows).raw, rtol=1e-5, atol=1e-6)
    for section, complaint in (
        ({"speed": speed}, "the card names speed; the policy takes camera, speed"),
        ({"speed": replace(speed, shape=[3]), "camera": camera}, r"speed: the card says float32\[3\], .* float32\[2\]"),
        (
            {"speed": speed, "camera": replace(camera, dtype="float32")},
            r"camera: the card says float32\[3, 36, 36\], .* uint8",
        ),
    ):
        with pytest.raises(CardError, match=complaint):
            from_sb3(given.path, replace(DRIVE, observation=section), None, trust_pickle=True, no_vecnormalize=True)


def test_an_authors_fields_may_have_names_of_their_own_and_get_the_spaces_choices(trained: Trainer):
    given = trained("ppo-sources")

    def read(**section: FieldCard) -> Any:
        return from_sb3(given.path, replace(DRIVE, observation=section), given.vecnormalize, True)

    lidar, rows = FieldCard("float32", [2], 0, 30, "m", source="lidar-front"), FieldCard("uint8", [2])
    found = read(command=FieldCard("uint8", []), beams=lidar, rows=rows)
    assert found.observation["command"] == FieldCard("uint8", [], 0, 5, choices=6)
    assert (found.observation["rows"].choices, found.observation["rows"].high) == ([3, 2], [2, 1])
    assert found.observation["beams"].seen.high == 30
    own = from_sb3(given.path, given.draft, given.vecnormalize, True)
    assert own.observation["lidar_front"].source == "lidar-front"
    batch = observations(observation_spec(own.observation), 50)
    renamed = {"command": batch["command"], "beams": batch["lidar_front"], "rows": batch["rows"]}
    np.testing.assert_array_equal(found.answer(renamed).raw, own.answer(batch).raw)
    raw = found.graph(*(torch.from_numpy(array) for array in renamed.values()))[0]
    np.testing.assert_allclose(raw.detach(), own.answer(batch).raw, rtol=1e-5, atol=1e-6)
    with pytest.raises(CardError, match=r"command: the policy takes choices: 6, low: 0\.0, high: 5\.0"):
        read(command=FieldCard("uint8", [], 1, 6, choices=6), beams=lidar, rows=rows)
    with pytest.raises(CardError, match=r"observation rows: the card says float32\[2\], the policy takes uint8\[2\]"):
        read(command=FieldCard("uint8", []), beams=lidar, rows=FieldCard("float32", [2]))
    with pytest.raises(CardError, match="the card names beams; the policy takes command, lidar-front, rows"):
        read(beams=FieldCard("float32", [2]))


def test_an_image_that_vecnormalize_hid_needs_a_card(trained: Trainer):
    given = trained("ppo-normalised-image")
    with pytest.raises(CardError, match="VecNormalize hid whether it was uint8; pass --card"):
        from_sb3(given.path, DRIVE, given.vecnormalize, trust_pickle=True)


@pytest.mark.parametrize("name", ["dqn", "a2c-choices"])
def test_a_table_has_one_control_for_each_choice(trained: Trainer, name: str):
    for draft, entries in ((ActionDraft("table", table=CHOOSE.action.table[:3]), 3), (DRIVE.action, 0)):
        with pytest.raises(CardError, match=f"action.table: {entries} controls, but the policy chooses among 4"):
            from_sb3(trained(name).path, CardDraft(draft), None, trust_pickle=True, no_vecnormalize=True)


def test_without_an_action_section_nothing_is_guessed(trained: Trainer):
    for name in ("ppo", "dqn"):
        with pytest.raises(CardError, match="pass --card FILE with an action section"):
            from_sb3(trained(name).path, CardDraft(), None, trust_pickle=True)
