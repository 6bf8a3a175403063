"""Algorithm settings: dataclass fields with a help text, and flags of them."""

import dataclasses
import math
import typing
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple, Type


def setting(default: Any, help_text: str) -> Any:
  """Declares a config field that the command line offers as a flag."""
  return dataclasses.field(default=default, metadata={'help': help_text})


def fields(config_class: Type[Any]) -> List['dataclasses.Field[Any]']:
  """Returns the fields that the command line offers as flags."""
  return [field for field in dataclasses.fields(config_class)
          if 'help' in field.metadata]


def checker(config: Any,
            found: List[str]) -> Callable[[bool, str, str], None]:
  """Returns `check(ok, name, needs)`.

  Unless `ok`, it adds to `found` what the setting `name` is and what it needs.

  Args:
    config: holds the settings.
    found: the sentences so far.
  """

  def check(ok: bool, name: str, needs: str) -> None:
    if not ok:
      found.append(f'{name}: got {getattr(config, name)!r}, needs {needs}')

  return check


def is_range(values: Tuple[float, float]) -> bool:
  """Tells whether these are finite numbers, the smaller one first."""
  return -math.inf < values[0] < values[1] < math.inf


def parse(config_class: Type[Any], texts: Mapping[str, Optional[str]],
          found: List[str]) -> Dict[str, Any]:
  """Reads the settings that were given as text.

  Args:
    config_class: declares the settings.
    texts: by name, None where nothing was given; other names are let alone.
    found: what cannot be read is added to it, one sentence each.

  Returns:
    Values by name, of those that were given and could be read.
  """
  hints = typing.get_type_hints(config_class)
  values = {}
  for field in fields(config_class):
    text = texts.get(field.name)
    if text is None:
      continue
    read, allowed = _PARSERS[hints[field.name]]
    try:
      values[field.name] = read(text)
    except ValueError:
      found.append(f"{field.name}: got '{text}', needs {allowed}")
  return values


def _parse_bool(text: str) -> bool:
  values = {'true': True, '1': True, 'false': False, '0': False}
  if text.lower() not in values:
    raise ValueError(text)
  return values[text.lower()]


def _parse_number_or_none(text: str) -> Optional[float]:
  return None if text.lower() == 'none' else float(text)


def _parse_integer_or_none(text: str) -> Optional[int]:
  return None if text.lower() == 'none' else int(text)


def _parse_integers(text: str) -> Tuple[int, ...]:
  return tuple(int(t) for t in text.split(','))


def _parse_two_numbers(text: str) -> Tuple[float, float]:
  lowest, highest = (float(t) for t in text.split(','))
  return lowest, highest


_PARSERS: Dict[Any, Tuple[Callable[[str], Any], str]] = {
    bool: (_parse_bool, 'true or false'),
    int: (int, 'a whole number'),
    float: (float, 'a number'),
    str: (str, 'a text'),
    Optional[str]: (str, 'a text'),
    Optional[float]: (_parse_number_or_none, "a number or 'none'"),
    Optional[int]: (_parse_integer_or_none, "a whole number or 'none'"),
    Tuple[int, ...]: (_parse_integers, "whole numbers like '256,256'"),
    Tuple[float, float]: (_parse_two_numbers, "two numbers like '-200,300'"),
}
