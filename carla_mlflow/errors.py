"""The errors that this project raises, ordered by whose fault they are.

CarlaMlflowError
├── SpecError              an observation (or an action) does not fit its spec: the caller's fault
├── EpisodeError           an episode can't be continued here: another version or another key began it
├── ArtifactError          a policy artifact is invalid: its author's fault, or somebody changed it
│   ├── CardError          model_card.yaml is invalid
│   ├── IntegrityError     bytes differ from the hash in the card, or from the pinned digest
│   ├── ParityError        the policy here does not act as the trained policy did
│   └── CrashError         loading the policy crashed the process that loaded it
├── ActionError            the policy computed no usable action: the policy's fault
├── DeviceError            the requested device is not there
├── CacheError             fetched artifacts can't be stored on this machine: its disk's, or a setting's fault
├── ExportError            a trained policy can't be exported as an artifact
├── DrivingError           a policy can't be driven in an environment, or a report of its driving can't be read
├── RegistryError          the registry could not carry out a request
│   ├── NotFoundError      no such model, version, alias or stage
│   │   └── NotOursError   MLflow has the version, but without semantic version and digest
│   └── RefusedError       a rule or a gate refused
├── UnreachableError       a registry or a policy server did not answer in time
├── ContractError          the served policy observes or acts differently than the caller was built for
└── ServerError            a policy server answered with an error, or something that is no policy server answered
"""

from __future__ import annotations

from typing import Literal

EpisodeCode = Literal["state_of_another_key", "state_of_another_version", "episode_of_another_version"]
"""Why an episode can't be continued; whoever gets one of these may begin it anew."""


class CarlaMlflowError(Exception):
    """Base of all errors that this project raises on purpose; the text is one line for people."""


class SpecError(CarlaMlflowError):
    """A value does not fit its spec.

    Attributes:
        field: the value's place in the request, such as `observations[3].sensors[12]`.
        problem: what is wrong with the value.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


class EpisodeError(CarlaMlflowError):
    """An episode can't be continued here, since another version of the policy or another key began it.

    Attributes:
        code: state_of_another_key, state_of_another_version or episode_of_another_version.
        field: the value's place in the request, such as `observations[3].state`.
        problem: what is wrong with the value.
    """

    def __init__(self, code: EpisodeCode, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.code: EpisodeCode = code
        self.field, self.problem = field, problem


class ArtifactError(CarlaMlflowError):
    """A policy artifact is invalid."""


class CardError(ArtifactError):
    """model_card.yaml is invalid."""


class IntegrityError(ArtifactError):
    """Bytes differ from the hash in the card, or from the pinned digest."""


class ParityError(ArtifactError):
    """The policy does not act here as the trained policy did."""


class CrashError(ArtifactError):
    """Loading the policy crashed the process that loaded it.

    Attributes:
        code: the exit code of that process; negative for a signal.
    """

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class ActionError(CarlaMlflowError):
    """The policy computed an action that is not finite or leaves its bounds."""


class DeviceError(CarlaMlflowError):
    """The requested device is not there."""


class CacheError(CarlaMlflowError):
    """The folder for fetched artifacts can't be used.

    Attributes:
        reason: why, without the path on this machine.
        is_full: whether the reason is a full disk.
    """

    def __init__(self, folder: str, reason: str, is_full: bool = False) -> None:
        super().__init__(f"{folder}: {reason}; set POLICY_CACHE_DIR to another folder")
        self.reason, self.is_full = reason, is_full


class ExportError(CarlaMlflowError):
    """A trained policy can't be exported as an artifact."""


class DrivingError(CarlaMlflowError):
    """A policy can't be driven in an environment, or a report of its driving can't be read."""


class RegistryError(CarlaMlflowError):
    """The registry could not carry out a request."""


class NotFoundError(RegistryError):
    """No such model, version, alias or stage."""


class NotOursError(NotFoundError):
    """MLflow has the version, but without semantic version and digest, so that it is not one of this project's.

    Attributes:
        lack: what is missing, and how to add it.
    """

    def __init__(self, reference: str, lack: str) -> None:
        super().__init__(f"{reference}: {lack}")
        self.lack = lack


class RefusedError(RegistryError):
    """A rule or a gate refused the request.

    Attributes:
        shortfalls: each unmet condition, in words.
        headline: the message without them.
    """

    def __init__(self, message: str, shortfalls: tuple[str, ...] = ()) -> None:
        super().__init__(": ".join((message, "; ".join(shortfalls))) if shortfalls else message)
        self.shortfalls, self.headline = shortfalls, message


class UnreachableError(CarlaMlflowError):
    """A registry or a policy server did not answer in time."""


class ContractError(CarlaMlflowError):
    """The served policy observes or acts differently than the caller was built for."""


class ServerError(CarlaMlflowError):
    """A policy server answered with an error, or something that is no policy server answered.

    Attributes:
        code: the code of its error object, such as `not_ready`; None when it sent none.
        field: the value at fault, such as `observations[0].speed`; None when it named none.
    """

    def __init__(self, message: str, code: str | None = None, field: str | None = None) -> None:
        super().__init__(message)
        self.code, self.field = code, field
