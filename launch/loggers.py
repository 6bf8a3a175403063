"""Log rows of one role: CSV always, TensorBoard events beside it."""

import csv
import os
import socket
import time
from typing import Any, List, Mapping

from acme.utils import loggers
import numpy as np
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.summary.writer import record_writer


class TensorBoardLogger(loggers.Logger):
  """Writes scalars as TensorBoard events, without importing TensorFlow."""

  def __init__(self, directory: str, label: str, steps_key: str):
    """Opens an event file.

    Args:
      directory: what `tensorboard --logdir` is pointed at, or below.
      label: prefix of every tag.
      steps_key: which value is the x axis.
    """
    os.makedirs(directory, exist_ok=True)
    self._label = label
    self._steps_key = steps_key
    name = f'events.out.tfevents.{time.time():.0f}.{socket.gethostname()}'
    self._file = open(  # pylint: disable=consider-using-with
        os.path.join(directory, f'{name}.{os.getpid()}'), 'wb')
    self._records = record_writer.RecordWriter(self._file)
    self._write(event_pb2.Event(
        wall_time=time.time(), file_version='brain.Event:2'))

  def write(self, data: Mapping[str, Any]) -> None:
    """Writes one event holding every finite number of `data`."""
    summary = summary_pb2.Summary()
    for name, value in data.items():
      if name != self._steps_key and np.isfinite(value):
        summary.value.add(
            tag=f'{self._label}/{name}', simple_value=float(value))
    self._write(event_pb2.Event(
        wall_time=time.time(), step=int(data[self._steps_key]),
        summary=summary))

  def close(self) -> None:
    """Closes the file."""
    self._file.close()

  def _write(self, event: event_pb2.Event) -> None:
    self._records.write(event.SerializeToString())
    self._file.flush()


class ColumnsLogger(loggers.Logger):
  """Appends rows to `logs/<role>/logs.csv`, each value in its own column.

  The columns are those of the file and of the first row written; what further
  rows have besides is left out. Acme's logger would take them from the first
  row alone, whatever the file that it appends to says.
  """

  def __init__(self, run_dir: str, role: str):
    """Opens the file of `role`; what a run has written there before stays."""
    self._run_dir, self._role = run_dir, role
    self._log = self._open()
    self._has_columns = False

  def write(self, data: Mapping[str, Any]) -> None:
    """Writes one row."""
    if not self._has_columns:
      self._has_columns = True
      data = {**dict.fromkeys(self._fit(sorted(data)), ''), **data}
    self._log.write(data)

  def close(self) -> None:
    """Closes the file."""
    self._log.close()

  def _open(self) -> loggers.CSVLogger:
    return loggers.CSVLogger(
        self._run_dir, self._role, add_uid=False, flush_every=1)

  def _fit(self, names: List[str]) -> List[str]:
    """Makes room in the file for columns `names`; returns all it has then."""
    path = self._log.file_path
    with open(path, newline='', encoding='utf-8') as f:
      rows = csv.DictReader(f)
      there = list(rows.fieldnames or ())
      # Acme's logger writes its columns in this order.
      columns = sorted({*there, *names})
      if there in ([], columns):
        return columns
      with open(f'{path}.tmp', 'w', newline='', encoding='utf-8') as anew:
        writer = csv.DictWriter(
            anew, columns, restval='', extrasaction='ignore')
        writer.writeheader()
        writer.writerows(rows)
    self._log.close()
    os.replace(f'{path}.tmp', path)
    self._log = self._open()
    return columns


def make_logger(run_dir: str, role: str) -> loggers.Logger:
  """Returns the logger of `role`: `logs/<role>/logs.csv` and `tensorboard/`."""
  return loggers.Dispatcher([
      ColumnsLogger(run_dir, role),
      TensorBoardLogger(
          os.path.join(run_dir, 'tensorboard', role), role, 'actor_steps'),
  ])
