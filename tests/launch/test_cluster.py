"""Runs over SLURM and over several networks: real ones, on this machine."""

import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

import psutil
import pytest

from launch import run_folder, sweep
from launch.slurm import submit
from tests.launch.clusters import Networks, SlurmCluster
from tests.launch.processes import LP_RUN, Run, TINY

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope='module')
def slurm():
  if SlurmCluster.missing():
    pytest.skip('no slurmctld, slurmd and srun; Debian: apt-get install '
                '--no-install-recommends slurm-wlm munge')
  folder = tempfile.mkdtemp(prefix='slurm')
  cluster = SlurmCluster(folder)
  try:
    cluster.start()
    yield cluster
  finally:
    cluster.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope='module')
def networks():
  if Networks.missing():
    pytest.skip('network namespaces take root and iproute2')
  folder = tempfile.mkdtemp(prefix='networks')
  made = Networks(folder)
  try:
    made.start()
    yield made
  finally:
    made.stop()
    shutil.rmtree(folder, ignore_errors=True)


class Job:
  """A submitted run."""

  def __init__(self, cluster, folder, *flags, sbatch=''):
    self._cluster, self.folder = cluster, str(folder)
    done = subprocess.run(
        [sys.executable, LP_RUN, *TINY, *flags, '--launcher=slurm', '--submit',
         f'--sbatch=--nodes=2 --gres=gpu:1 {sbatch}'],
        cwd=folder, env=cluster.environment, capture_output=True, text=True,
        timeout=120)
    assert done.returncode == 0, done.stderr
    self.number = re.search(r'submitted as job (\d+)', done.stdout).group(1)

  @property
  def run_dir(self):
    return os.path.join(
        self.folder, 'logs', 'contrastive_cpc_point_FourRooms_7')

  @property
  def state(self):
    return self._cluster.job(self.number)['JobState']

  @property
  def output(self):
    text = ''
    for path in glob.glob(os.path.join(self.run_dir, 'slurm-*.out')):
      with open(path, encoding='utf-8') as f:
        text += f.read()
    return text

  def updates(self):
    saved = run_folder.saved_counter(self.run_dir)
    return saved['counts']['learner_updates'] if saved else 0

  def wait(self, condition, what, seconds=240.0):
    deadline = time.monotonic() + seconds
    while not condition():
      assert time.monotonic() < deadline, f'no {what}:\n{self.output}'
      time.sleep(0.3)

  def processes(self):
    """Returns the processes of the run, by the label of the node or ''."""
    found = []
    for process in psutil.process_iter():
      try:
        command = ' '.join(process.cmdline())
        if process.cwd() != os.path.realpath(self.folder):
          continue
      except (psutil.NoSuchProcess, psutil.AccessDenied):
        continue
      match = re.search(r'(\w+)\.pkl --lp_task_id (\d+)', command)
      if match and 'srun' not in command.split()[0]:
        found.append((f'{match.group(1)}/{match.group(2)}', process))
    return found

  def gone(self):
    self.wait(lambda: not self.processes(), 'end of its processes', 90.0)


def node_environment(job, label):
  process, = [p for name, p in job.processes() if name == label]
  return process.environ()


def test_a_job_runs_to_its_end(slurm, tmp_path):
  job = Job(slurm, tmp_path, '--num_steps=3000', sbatch='--time=10')
  job.wait(lambda: job.state in ('COMPLETED', 'FAILED'), 'end')
  assert job.state == 'COMPLETED', job.output
  assert 'newest checkpoint' in job.output
  assert run_folder.saved_counter(job.run_dir)['counts']['actor_steps'] >= 3000
  job.gone()


def test_a_job_is_spread_survives_an_actor_and_is_cancelled(slurm, tmp_path):
  job = Job(slurm, tmp_path, '--num_steps=1000000', sbatch='--time=10')
  job.wait(lambda: job.updates() > 0, 'checkpoint with updates')
  # Replay and learner share a node, the actors have the other one; the learner
  # alone has a GPU.
  learner = node_environment(job, 'learner/0')
  assert learner['SLURMD_NODENAME'] == 'n1'
  assert learner['CUDA_VISIBLE_DEVICES'] == '0'
  assert node_environment(job, 'replay/0')['SLURMD_NODENAME'] == 'n1'
  actor = node_environment(job, 'actor/0')
  assert actor['SLURMD_NODENAME'] == 'n2'
  assert actor['CUDA_VISIBLE_DEVICES'] == ''

  dead, = [p for name, p in job.processes() if name == 'actor/1']
  dead.kill()
  job.wait(lambda: any(name == 'actor/1' and p.pid != dead.pid
                       for name, p in job.processes()), 'new actor')
  assert 'actor/1 ended with status' in job.output
  before = job.updates()
  job.wait(lambda: job.updates() >= before + 40, 'progress')

  slurm.run('scancel', '--batch', '--signal=TERM', job.number)
  job.wait(lambda: job.state not in ('RUNNING', 'COMPLETING'), 'end')
  assert job.state == 'COMPLETED', job.output
  job.gone()
  done = job.updates()

  # The same command goes on; this time it is cancelled without a word.
  again = Job(slurm, tmp_path, '--num_steps=1000000', sbatch='--time=10')
  again.wait(lambda: again.updates() >= done + 40, 'progress')
  slurm.run('scancel', again.number)
  again.wait(lambda: again.state == 'CANCELLED', 'end')
  again.gone()
  assert again.updates() >= done + 40


def test_a_crash_fails_the_job_with_its_traceback(slurm, tmp_path):
  job = Job(slurm, tmp_path, '--num_steps=1000000', sbatch='--time=10')
  job.wait(lambda: job.updates() > 0, 'checkpoint with updates')
  learner, = [p for name, p in job.processes() if name == 'learner/0']
  learner.kill()
  job.wait(lambda: job.state not in ('RUNNING', 'COMPLETING'), 'end')
  assert job.state == 'FAILED', job.output
  assert 'learner/0 failed with status' in job.output
  job.gone()


def test_a_job_out_of_time_goes_back_into_the_queue_and_on(slurm, tmp_path):
  job = Job(slurm, tmp_path, '--num_steps=1000000', '--requeue',
            sbatch='--time=30')
  job.wait(lambda: job.updates() > 0, 'checkpoint with updates')
  # What SLURM sends to the script before its time is over.
  slurm.run('scancel', '--batch', '--signal=USR1', job.number)
  job.wait(lambda: slurm.job(job.number)['Restarts'] == '1', 'requeue')
  job.gone()
  done = job.updates()
  # It would begin by itself, but not before two minutes have passed.
  job.wait(lambda: job.state == 'PENDING', 'place in the queue')
  slurm.run('scontrol', 'update', f'JobId={job.number}', 'StartTime=now')
  job.wait(lambda: job.state == 'RUNNING', 'second start')
  job.wait(lambda: job.updates() >= done + 40, 'progress')
  slurm.run('scancel', job.number)
  job.wait(lambda: job.state == 'CANCELLED', 'end')
  job.gone()


def test_a_sweep_is_an_array_of_jobs(slurm, tmp_path, monkeypatch):
  monkeypatch.setenv('SLURM_CONF', slurm.environment['SLURM_CONF'])
  todo = [sweep.Task('s', i, str(tmp_path / str(i)), [
      sys.executable, '-c', f'import os; print({i}, os.getcwd())'])
          for i in range(3)]
  submit(str(tmp_path / 'sweep.sh'),
         sweep.array_script(todo, str(tmp_path), ['--time=5']))
  paths = [os.path.join(task.folder, 'output.txt') for task in todo]
  deadline = time.monotonic() + 60.0
  while not all(os.path.exists(path) and os.path.getsize(path)
                for path in paths):
    assert time.monotonic() < deadline, slurm.run('squeue')
    time.sleep(0.2)
  for i, path in enumerate(paths):
    with open(path, encoding='utf-8') as f:
      assert f.read().strip() == f'{i} {todo[i].folder}'


def test_a_run_spans_two_networks(networks, tmp_path):
  run = Run(tmp_path, *TINY, '--num_steps=3000', '--launcher=ssh',
            f'--hosts={",".join(networks.HOSTS)}', f'--ssh={networks.ssh}')
  try:
    here = os.stat('/proc/self/ns/net').st_ino

    def spaces():
      return {label: os.stat(f'/proc/{node.pid}/ns/net').st_ino
              for label, node in run.nodes().items()}

    # A node has its name a moment before it enters the other network.
    run.wait_until(
        lambda: len(spaces()) >= 6 and here not in spaces().values(),
        'all nodes on other networks')
    of = spaces()
    assert of['learner/0'] == of['replay/0'] != of['actor/0'] == of['actor/1']
    # Nobody dials what every machine calls itself.
    for path in glob.glob(os.path.join(run.folder, 'logs', '*', 'nodes',
                                       '*.pkl')):
      with open(path, 'rb') as f:
        assert not re.search(rb'localhost:|127\.0\.0\.1:', f.read()), path
    assert run.wait(240) == 0, run.output
    assert run.orphans() == []
  finally:
    run.end()


def test_nodes_on_other_machines_end_when_the_launcher_is_killed(
    networks, tmp_path):
  run = Run(tmp_path, *TINY, '--num_steps=1000000', '--launcher=ssh',
            f'--hosts={",".join(networks.HOSTS)}', f'--ssh={networks.ssh}')
  try:
    run.wait_until(
        lambda: bool(glob.glob(os.path.join(
            run.folder, 'logs', '*', 'checkpoints', 'ckpt-*'))), 'checkpoint')
    run.nodes()
    run.process.kill()
    run.process.wait()
    assert run.orphans(within=120.0) == []
  finally:
    run.end()
