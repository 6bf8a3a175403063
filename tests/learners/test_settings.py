"""Settings as text: every registered one can be given."""

import typing
from typing import Optional

import pytest

from learners import registry, settings

CONFIGS = {entry.config_class.__name__: entry.config_class
           for entry in registry.ALGORITHMS.values()}


def as_text(value):
  """Writes a value as the command line takes it."""
  if isinstance(value, tuple):
    return ','.join(str(v) for v in value)
  return str(value).lower() if value in (None, True, False) else str(value)


@pytest.mark.parametrize('config_class', CONFIGS.values(), ids=list(CONFIGS))
def test_every_setting_can_be_given_as_text(config_class):
  hints = typing.get_type_hints(config_class)
  # No text stands for no path.
  defaults = {
      field.name: field.default for field in settings.fields(config_class)
      if not (hints[field.name] == Optional[str] and field.default is None)}
  found = []
  texts = {name: as_text(value) for name, value in defaults.items()}
  assert settings.parse(config_class, texts, found) == defaults
  assert not found


def test_what_cannot_be_read_is_refused_by_name():
  found = []
  assert settings.parse(
      CONFIGS['DCEOConfig'],
      {'option_n_step': '1.5', 'rep_gap_decay': 'much'}, found) == {}
  assert found == [
      "option_n_step: got '1.5', needs a whole number or 'none'",
      "rep_gap_decay: got 'much', needs a number or 'none'"]


def test_whole_numbers_may_be_left_open():
  found = []
  assert settings.parse(
      CONFIGS['DCEOConfig'], {'option_n_step': 'none'}, found) == {
          'option_n_step': None}
  assert not found
