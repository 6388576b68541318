"""What a TorchScript policy may not be: a memory, chance, a look at other rows, a loop that need not end."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
import torchscript_cases as cases
from torch import nn

from carla_mlflow.backends.torchscript_module import TorchScriptBackend
from carla_mlflow.errors import ArtifactError


def loaded(module: nn.Module) -> TorchScriptBackend:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(module.eval()), buffer)
    return TorchScriptBackend(buffer.getvalue(), "cpu")


@pytest.mark.parametrize(
    ("policy", "complaint"),
    [
        (cases.WritesOut, "a policy keeps no state"),
        (cases.WritesATuple, "a policy keeps no state"),
        (cases.WritesByABranch, "a policy keeps no state"),
        (cases.WritesItsWeights, "a policy keeps no state"),
        (cases.Appends, "a policy keeps no state"),
        (cases.DropsOut, r"aten::dropout is in training mode \(train\)"),
        (cases.AttendsByChance, r"scaled_dot_product_attention is in training mode \(dropout_p\)"),
        (cases.NormalisesByItsBatch, r"batch_norm is in training mode \(training\)"),
        (cases.NeverEnds, "a loop that may not end"),
        (cases.LoopsForYears, "a loop that may not end"),
        (cases.LoopsOverSizes, "a loop that may not end"),
        (cases.LoopsInLoops, "a loop that may not end"),
    ],
)
def test_what_could_answer_the_same_row_in_two_ways_is_refused_before_it_runs(policy: type[nn.Module], complaint: str):
    with pytest.raises(ArtifactError, match=complaint):
        loaded(policy())


def test_a_number_that_a_trace_holds_on_to_is_a_memory_too():
    asked = torch.zeros(1)

    class Traced(cases.Policy):
        def forward(self, x):
            asked.add_(1.0)
            return self.last(x) + asked

    buffer = io.BytesIO()
    with torch.no_grad():
        torch.jit.save(torch.jit.trace(Traced().eval(), (torch.zeros(3, 4),), check_trace=False), buffer)
    with pytest.raises(ArtifactError, match="a policy keeps no state"):
        TorchScriptBackend(buffer.getvalue(), "cpu")


def convolutional() -> nn.Module:
    view = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Upsample(scale_factor=2)]
    return nn.Sequential(*view, nn.PixelShuffle(2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 2))


@pytest.mark.parametrize(
    ("policy", "shape"),
    [
        (cases.LoopsOverTime, (4,)),
        (lambda: nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU(inplace=True), nn.Dropout()), (4,)),
        (lambda: nn.Sequential(nn.Linear(4, 8), nn.GLU(), nn.SELU(), nn.CELU(), nn.Softsign(), nn.LogSigmoid()), (4,)),
        (convolutional, (3, 9, 9)),
        (lambda: nn.TransformerEncoderLayer(4, 2, batch_first=True), (5, 4)),
    ],
    ids=["loops", "batch norm", "activations", "convolutions", "transformer"],
)
def test_the_layers_that_policies_are_made_of_are_taken_and_answer_as_torch_does(policy, shape: tuple[int, ...]):
    torch.manual_seed(0)
    module = policy().eval()
    rows = np.random.default_rng(0).normal(size=(7, *shape)).astype(np.float32)
    [found] = loaded(module)([rows.copy()])
    with torch.no_grad():
        np.testing.assert_allclose(found, module(torch.from_numpy(rows.copy())).numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("policy", "rows"),
    [
        (cases.ClipsInPlace, np.full((4, 4), 3.0, np.float32)),
        (cases.ClipsTheImage, np.full((2, 3, 8, 8), 255, np.uint8)),
    ],
)
def test_a_policy_that_works_in_place_leaves_the_callers_arrays_as_they_were(policy: type[nn.Module], rows: np.ndarray):
    backend = loaded(policy())
    before = rows.copy()
    first = backend([rows])[0].copy()
    bound = backend.bind([rows])
    assert bound.run()[0].tobytes() == bound.run()[0].tobytes() == first.tobytes()
    assert rows.tobytes() == before.tobytes()
