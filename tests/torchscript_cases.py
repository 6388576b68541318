"""A module behind a TorchScript interface. Without postponed annotations, which TorchScript can't resolve."""

from pathlib import Path

import torch


@torch.jit.interface
class Step(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pass


class EvilStep(torch.nn.Module):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = str(path)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 0.0 * torch.from_file(self.path, True, 1).fill_(3.0)


class BehindAnInterface(torch.nn.Module):
    """What an interface calls is not part of the inlined graph."""

    step: Step

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.step = EvilStep(path)

    def forward(self, speed: torch.Tensor, steering: torch.Tensor, sensors: torch.Tensor) -> torch.Tensor:
        return self.step.forward(speed).unsqueeze(1) + sensors[:, :2]


class Policy(torch.nn.Module):
    """Four numbers → two; with what the cases below remember in."""

    def __init__(self) -> None:
        super().__init__()
        self.last = torch.nn.Linear(4, 2)
        self.asked = torch.zeros(1)
        self.one = torch.ones(1)
        self.pair = (torch.zeros(1), torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.last(x))


class WritesOut(Policy):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.add(self.asked, self.one, out=self.asked)
        return torch.tanh(self.last(x)) + self.asked


class WritesATuple(Policy):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, _ = self.pair
        first.add_(1.0)
        return torch.tanh(self.last(x)) + first


class WritesByABranch(Policy):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        number = self.one
        if x.size(0) > 0:
            number = self.asked
        number.add_(1.0)
        return torch.tanh(self.last(x)) + self.asked


class WritesItsWeights(Policy):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.last.weight[0:1].mul_(0.5)
        return torch.tanh(self.last(x))


class Appends(Policy):
    history: list[torch.Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.history = [torch.zeros(1)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.history.append(self.one)
        return torch.tanh(self.last(x)) + float(len(self.history))


class DropsOut(Policy):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.last(torch.dropout(x, 0.1, True)))


class AttendsByChance(Policy):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        one = x.unsqueeze(1)
        return self.last(torch.nn.functional.scaled_dot_product_attention(one, one, one, dropout_p=0.5)[:, 0])


class NormalisesByItsBatch(Policy):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.nn.functional.batch_norm(x, None, None, training=True))


class NeverEnds(Policy):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        while bool(x.sum() < 1e30):
            x = x + 0.0
        return self.last(x)


class LoopsForYears(Policy):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(1 << 40):
            x = x + 1.0
        return self.last(x)


class LoopsInLoops(Policy):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(9_000):
            for _ in range(9_000):
                x = x + 1.0
        return self.last(x)


class LoopsOverSizes(Policy):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(x.size(0)):
            for _ in range(x.size(0)):
                for _ in range(x.size(0)):
                    for _ in range(x.size(0)):
                        x = x + 1.0
        return self.last(x)


class LoopsOverTime(Policy):
    """As a recurrent policy may: over its own axis, over a list, and a fixed number of rounds."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        total = x
        for _ in range(x.size(1)):
            total = total + x
        for part in x.split(2, dim=1):
            total = total + part.mean(dim=1, keepdim=True)
        for _ in range(30):
            total = total * 0.9
        return self.last(total)


class ClipsInPlace(Policy):
    """Works on its input itself, as ReLU(inplace=True) in the first layer does."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x.clamp_(-0.5, 0.5)
        return self.last(x)


class ClipsTheImage(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x.clamp_(max=200)
        return x.to(torch.float32).mean(dim=[2, 3])[:, :2]


class Saturated(torch.nn.Module):
    """Far from zero it answers all rows alike."""

    def __init__(self) -> None:
        super().__init__()
        hidden = [torch.nn.Linear(16, 256), torch.nn.ReLU(), torch.nn.Linear(256, 256), torch.nn.ReLU()]
        self.layers = torch.nn.Sequential(*hidden, torch.nn.Linear(256, 2), torch.nn.Tanh())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


class Constant(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x[:, :2] > 1e6).to(torch.float32)


class Coupled(torch.nn.Module):
    """Normalises by the largest number of the batch, once one is beyond 1,000."""

    def __init__(self) -> None:
        super().__init__()
        self.last = torch.nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.last(x / torch.clamp(x.abs().max(), min=1000.0)))
