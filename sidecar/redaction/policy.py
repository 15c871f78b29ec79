"""The redaction rules: which attributes and texts may leave, in which shape. What has no rule is dropped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Final, Self

from . import policy_file, strict_yaml
from .policy_file import PolicyError
from .rules import AttributeRule, Text

__all__ = ["Policy", "PolicyError"]

_DEFAULT: Final = "policies/default.yaml"


@dataclass(frozen=True, slots=True)
class Policy:
    """Rules by key; immutable once made, shared by threads.

    Attributes:
        attributes: of spans, metric data points and log records.
        events: of events on spans.
        resource: of resources.
        fields: of OTLP's own text fields, by path such as `Span.name`.
    """

    attributes: Mapping[str, AttributeRule]
    events: Mapping[str, AttributeRule]
    resource: Mapping[str, AttributeRule]
    fields: Mapping[str, Text]

    @classmethod
    def default(cls) -> Self:
        """The policy that the package ships."""
        return cls.parse((resources.files(__package__) / _DEFAULT).read_bytes())

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """The policy in a YAML file.

        Raises:
            PolicyError: the file cannot be read or has mistakes; one line each, with the file's name before
                it.
        """
        try:
            return cls.parse(strict_yaml.read_file(Path(path)))
        except strict_yaml.YamlError as error:
            raise PolicyError([f"{path}: {error}"]) from None
        except PolicyError as error:
            raise PolicyError(f"{path}: {mistake}" for mistake in error.mistakes) from None

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """The policy in a YAML document.

        Raises:
            PolicyError: it has mistakes; one line each.
        """
        mistakes: list[str] = []
        try:
            document = policy_file.checked(strict_yaml.parse(content), mistakes)
        except strict_yaml.YamlError as error:
            raise PolicyError([str(error)]) from None
        policy = cls(
            attributes=policy_file.attribute_rules(document, "attributes", mistakes),
            events=policy_file.attribute_rules(document, "events", mistakes),
            resource=policy_file.attribute_rules(document, "resource", mistakes),
            fields=policy_file.field_rules(document, mistakes),
        )
        if mistakes:
            raise PolicyError(mistakes)
        return policy
