"""What can go wrong, by whose fault it is.

CarlaMlflowError
├── SpecError              an observation (or an action) does not fit its spec: the caller's fault
├── ArtifactError          a policy artifact is not what it must be: its author's or a tamperer's
│   ├── CardError          model_card.yaml does not say what it must
│   ├── IntegrityError     bytes differ from what the card or the pin promises
│   ├── ParityError        the policy here does not act as the trained policy did
│   └── CrashError         loading it ends the process that tries
├── ActionError            the policy computed no usable action: the policy's fault
├── DeviceError            the device asked for is not there
├── CacheError             this machine can't keep what was fetched: its disk's, or a setting's fault
├── ExportError            a trained policy can't become an artifact
├── DrivingError           a policy can't be driven in an environment, or what is reported of it can't be read
├── RegistryError          the registry could not do what was asked
│   ├── NotFoundError      no such model, version, alias or stage
│   │   └── NotOursError   MLflow has the version, but without semantic version and digest
│   └── RefusedError       a rule or a gate says no
├── UnreachableError       a registry or a policy server did not answer in time
├── ContractError          what drives observes or acts otherwise than the caller was built for
└── ServerError            a policy server answered with an error, or not as a policy server does
"""

from __future__ import annotations


class CarlaMlflowError(Exception):
    """Everything that this project raises on purpose; its text is one line for a person."""


class SpecError(CarlaMlflowError):
    """A value does not fit its spec.

    Attributes:
        field: where, as the wire names it: `observations[3].sensors[12]`.
        problem: what is wrong with it.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


class ArtifactError(CarlaMlflowError):
    """A policy artifact is not what it must be."""


class CardError(ArtifactError):
    """model_card.yaml does not say what it must."""


class IntegrityError(ArtifactError):
    """Bytes differ from what the card or the pinned digest promises."""


class ParityError(ArtifactError):
    """The policy does not act here as the trained policy did."""


class CrashError(ArtifactError):
    """Loading the policy ended the process that tried.

    Attributes:
        code: the exit code of that process; negative for a signal.
    """

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class ActionError(CarlaMlflowError):
    """The policy computed an action that is not finite or leaves its bounds."""


class DeviceError(CarlaMlflowError):
    """The device asked for is not there."""


class CacheError(CarlaMlflowError):
    """The folder for fetched artifacts can't be used.

    Attributes:
        reason: why, without the path on this machine.
        is_full: whether only room is missing.
    """

    def __init__(self, folder: str, reason: str, is_full: bool = False) -> None:
        super().__init__(f"{folder}: {reason}; POLICY_CACHE_DIR names another folder for fetched artifacts")
        self.reason, self.is_full = reason, is_full


class ExportError(CarlaMlflowError):
    """A trained policy can't become an artifact."""


class DrivingError(CarlaMlflowError):
    """A policy can't be driven in an environment, or a report of its driving can't be read."""


class RegistryError(CarlaMlflowError):
    """The registry could not do what was asked."""


class NotFoundError(RegistryError):
    """No such model, version, alias or stage."""


class NotOursError(NotFoundError):
    """MLflow has it, but without what makes it one of ours.

    Attributes:
        lack: what that is, and how it becomes one.
    """

    def __init__(self, reference: str, lack: str) -> None:
        super().__init__(f"{reference}: {lack}")
        self.lack = lack


class RefusedError(RegistryError):
    """A rule or a gate says no.

    Attributes:
        shortfalls: each bar that was missed, in words.
        headline: the message without them.
    """

    def __init__(self, message: str, shortfalls: tuple[str, ...] = ()) -> None:
        super().__init__(": ".join((message, "; ".join(shortfalls))) if shortfalls else message)
        self.shortfalls, self.headline = shortfalls, message


class UnreachableError(CarlaMlflowError):
    """A registry or a policy server did not answer in time."""


class ContractError(CarlaMlflowError):
    """What drives observes or acts otherwise than the caller was built for."""


class ServerError(CarlaMlflowError):
    """A policy server answered with an error.

    Attributes:
        code: the code of its error object, such as `not_ready`; None when it sent none.
    """

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code
