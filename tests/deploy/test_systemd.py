"""The systemd unit, in systemd's own eyes where it is installed."""

import shutil
import subprocess
from pathlib import Path

import pytest

from runtime.server.program import STOP_SECONDS
from runtime.server.settings import read_settings

DEPLOY = Path(__file__).parents[2] / "deploy"
UNIT = DEPLOY / "fracture-sd.service"
HARDENED = {
    "DynamicUser": "yes",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateDevices": "yes",
    "NoNewPrivileges": "yes",
    "CapabilityBoundingSet": "",
    "SystemCallFilter": "@system-service",
    "KillMode": "mixed",
    "Restart": "on-failure",
}
MOST_EXPOSURE = 20

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="needs systemd-analyze"
)


def options() -> dict[str, str]:
    lines = [line for line in UNIT.read_text().splitlines() if line[:1].isalpha()]
    return dict(line.split("=", 1) for line in lines)


def test_it_is_hardened() -> None:
    assert options().items() >= HARDENED.items()


def test_systemd_waits_as_long_as_the_server_drains() -> None:
    assert int(options()["TimeoutStopSec"]) >= read_settings({}, {}).drain + STOP_SECONDS


def test_the_configuration_reaches_the_program_as_a_credential() -> None:
    name = options()["LoadCredential"].partition(":")[0]
    command = "/opt/fracture/bin/runtime serve --config ${CREDENTIALS_DIRECTORY}/" + name
    assert options()["ExecStart"] == command


@needs_systemd
@pytest.mark.parametrize("with_gpu", [False, True])
def test_systemd_finds_no_fault(with_gpu: bool, tmp_path: Path) -> None:
    """A misspelt option is only a warning to systemd."""
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/fracture/bin/runtime", "/bin/true"))
    if with_gpu:
        (tmp_path / f"{UNIT.name}.d").mkdir()
        shutil.copy(DEPLOY / "nvidia.conf", tmp_path / f"{UNIT.name}.d")
    for arguments in (
        ["verify", "--man=no"],
        ["security", "--offline=true", "--no-pager", f"--threshold={MOST_EXPOSURE}"],
    ):
        done = subprocess.run(
            ["systemd-analyze", *arguments, str(unit)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert unit.name not in done.stderr
