"""A version: a policy, its compiled rules and the keys of its pseudonyms. A request has one from end to end."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sidecar.configuration.settings import ConfigurationError, Settings
from sidecar.redaction import Kernel, MasterKey, Policy, PolicyError, Pseudonyms, Redactor
from sidecar.workers.pool import Workers

POLICY_SETTING: Final = "TENANTSCOPE_POLICY"
TRIAL_SETTING: Final = "TENANTSCOPE_TRIAL_POLICY"


@dataclass(frozen=True, slots=True)
class Version:
    """What a request is redacted by.

    Attributes:
        digest: of the policy, which works it out anew whenever it is asked.
    """

    policy: Policy
    digest: str
    trial_policy: Policy | None
    keys: tuple[MasterKey, ...]
    redactor: Redactor
    kernel: Kernel
    trial: Kernel | None

    @classmethod
    def of(
        cls, policy: Policy, trial: Policy | None, keys: tuple[MasterKey, ...], workers: Workers | None = None
    ) -> Version:
        """Compile a version; its kernels are the workers', where there are some."""
        names = Pseudonyms(keys[0])
        redactor = Redactor(policy, names)
        if workers is not None:
            kernel = workers.kernel(policy, keys[0])
            tried = None if trial is None else workers.kernel(trial, keys[0])
            return cls(policy, policy.digest, trial, keys, redactor, kernel, tried)
        return cls(
            policy, policy.digest, trial, keys, redactor, redactor, None if trial is None else Redactor(trial, names)
        )

    @property
    def told(self) -> tuple[object, ...]:
        """What tells a version from another."""
        return self.digest, None if self.trial_policy is None else self.trial_policy.digest, self.keys


def load_policies(settings: Settings) -> tuple[Policy, Policy | None]:
    """The policy that the settings name, and the one to be tried.

    Raises:
        ConfigurationError: one cannot be used; every line names the setting.
    """
    return _load(settings.policy, POLICY_SETTING), (
        None if settings.trial_policy is None else _load(settings.trial_policy, TRIAL_SETTING)
    )


def _load(source: Path | str, setting: str) -> Policy:
    try:
        return Policy.load(source)
    except PolicyError as error:
        raise ConfigurationError(*(f"{setting}: {line}" for line in error.mistakes)) from None
