"""Clusters on one machine: SLURM with two nodes, and two networks."""

import os
import shutil
import socket
import subprocess
import time
from typing import Dict, List

import portpicker

_CONFIG = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
AuthType=auth/none
CredType=cred/none
SlurmUser={user}
SlurmdUser={user}
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MailProg=/bin/true
ReturnToService=2
KillWait=20
MinJobAge=3600
StateSaveLocation={folder}/ctld
SlurmdSpoolDir={folder}/d-%n
SlurmctldPidFile={folder}/ctld.pid
SlurmdPidFile={folder}/d-%n.pid
SlurmctldLogFile={folder}/ctld.log
SlurmdLogFile={folder}/%n.log
SlurmctldPort={port}
GresTypes=gpu
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.2 Port={first} CPUs={cpus} \\
Gres=gpu:1
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.3 Port={second} CPUs={cpus} \\
Gres=gpu:1
PartitionName=main Nodes=n[1-2] Default=YES State=UP OverSubscribe=YES
"""


class SlurmCluster:
  """Two nodes, n1 and n2, each with something that SLURM takes for a GPU."""

  def __init__(self, folder: str):
    self._folder = folder
    os.makedirs(os.path.join(folder, 'ctld'))
    for node in ('n1', 'n2'):
      os.makedirs(os.path.join(folder, f'd-{node}'))
    user = subprocess.run(['id', '-un'], check=True, capture_output=True,
                          text=True).stdout.strip()
    files = {
        'slurm.conf': _CONFIG.format(
            host=socket.gethostname().split('.')[0], user=user, folder=folder,
            cpus=os.cpu_count(), port=portpicker.pick_unused_port(),
            first=portpicker.pick_unused_port(),
            second=portpicker.pick_unused_port()),
        # Not used, but slurmd looks for mounted cgroups without it.
        'cgroup.conf': 'CgroupPlugin=cgroup/v1\n',
        'gres.conf': 'NodeName=n[1-2] Name=gpu File=/dev/null\n'}
    for name, text in files.items():
      with open(os.path.join(folder, name), 'w', encoding='ascii') as f:
        f.write(text)
    self.environment: Dict[str, str] = {
        **os.environ, 'SLURM_CONF': os.path.join(folder, 'slurm.conf')}

  @staticmethod
  def missing() -> bool:
    """Whether this machine lacks what it takes."""
    return not all(map(shutil.which, ('slurmctld', 'slurmd', 'srun')))

  def start(self) -> None:
    config = self.environment['SLURM_CONF']
    self.run('slurmctld', '-f', config)
    for node in ('n1', 'n2'):
      self.run('slurmd', '-f', config, '-N', node)
    deadline = time.monotonic() + 60.0
    while self.run('sinfo', '-h', '-o', '%T').split() != ['idle']:
      assert time.monotonic() < deadline, self.run('sinfo')
      time.sleep(0.25)

  def run(self, *command: str) -> str:
    done = subprocess.run(command, env=self.environment, capture_output=True,
                          text=True, timeout=60)
    assert done.returncode == 0, f'{command}: {done.stderr}'
    return done.stdout

  def job(self, number: str) -> Dict[str, str]:
    """Returns what SLURM says of a job."""
    text = self.run('scontrol', '-o', 'show', 'job', number)
    return dict(word.split('=', 1) for word in text.split() if '=' in word)

  def stop(self) -> None:
    subprocess.run(['scancel', '--user', str(os.getuid())],
                   env=self.environment, capture_output=True, timeout=60)
    time.sleep(1.0)
    for name in os.listdir(self._folder):
      if name.endswith('.pid'):
        with open(os.path.join(self._folder, name), encoding='ascii') as f:
          os.kill(int(f.read()), 15)


class Networks:
  """Two network namespaces on a bridge; the machine itself is on it too."""

  HERE = '10.213.77.1'
  HOSTS = ('10.213.77.2', '10.213.77.3')
  _BRIDGE = 'cairnbr'

  def __init__(self, folder: str):
    # As ssh is called: host, then one command line.
    self.ssh = os.path.join(folder, 'ssh')
    with open(self.ssh, 'w', encoding='ascii') as f:
      f.write('#!/bin/bash\nexec ip netns exec cairn${1##*.} sh -c "$2"\n')
    os.chmod(self.ssh, 0o755)

  @staticmethod
  def missing() -> bool:
    """Whether this machine lacks what it takes."""
    if os.getuid() != 0 or shutil.which('ip') is None:
      return True
    test = ['ip', 'netns', 'add', 'cairntest']
    if subprocess.run(test, capture_output=True).returncode:
      return True
    return subprocess.run(['ip', 'netns', 'del', 'cairntest'],
                          capture_output=True).returncode != 0

  def start(self) -> None:
    self._ip('link', 'add', self._BRIDGE, 'type', 'bridge')
    self._ip('addr', 'add', f'{self.HERE}/24', 'dev', self._BRIDGE)
    self._ip('link', 'set', self._BRIDGE, 'up')
    for host in self.HOSTS:
      name, end = self._names(host)
      self._ip('netns', 'add', name)
      self._ip('link', 'add', end, 'type', 'veth', 'peer', 'name', 'eth0',
               'netns', name)
      self._ip('link', 'set', end, 'master', self._BRIDGE, 'up')
      self._ip('-n', name, 'addr', 'add', f'{host}/24', 'dev', 'eth0')
      for interface in ('eth0', 'lo'):
        self._ip('-n', name, 'link', 'set', interface, 'up')

  def stop(self) -> None:
    for host in self.HOSTS:
      subprocess.run(['ip', 'netns', 'del', self._names(host)[0]],
                     capture_output=True)
    subprocess.run(['ip', 'link', 'del', self._BRIDGE], capture_output=True)

  def _names(self, host: str) -> List[str]:
    number = host.rpartition('.')[2]
    return [f'cairn{number}', f'cairnv{number}']

  def _ip(self, *arguments: str) -> None:
    subprocess.run(['ip', *arguments], check=True, capture_output=True)
