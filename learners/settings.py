"""How algorithm settings are declared: dataclass fields with a help text."""

import dataclasses
from typing import Any


def setting(default: Any, help_text: str) -> Any:
  """Declares a config field that the command line offers as a flag."""
  return dataclasses.field(default=default, metadata={'help': help_text})
