"""The container files, without a container engine: what can be read and run of them here."""

import json
import re
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from runtime.server.program import STOP_SECONDS
from runtime.server.settings import read_settings
from tests.deploy.container_file import Stage, read_stages
from tests.runtime.server.stub import Stub, live
from tests.runtime.stand_ins import open_stand_in

ROOT = Path(__file__).parents[2]
FILES = {path.suffix[1:]: path for path in (ROOT / "deploy").glob("Containerfile.*")}
BACKENDS = {"cpu": ["cpu"], "nvidia": ["tensorrt-rtx", "tensorrt"]}


@pytest.fixture(params=sorted(FILES))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def stages(kind: str) -> list[Stage]:
    return read_stages(FILES[kind])


def test_there_is_one_for_each_kind_of_machine() -> None:
    assert FILES.keys() == BACKENDS.keys()


def test_one_base_with_a_version_and_nothing_installed_into_it(stages: list[Stage]) -> None:
    build, final = stages
    assert build.image == final.image
    assert re.fullmatch(r"python:3\.\d+-slim-[a-z]+", build.image)
    assert final.all("RUN") == []
    assert next(value.split()[-1] for value in final.all("COPY")) == "/opt/fracture"


def test_what_is_copied_is_there_and_not_ignored(stages: list[Stage]) -> None:
    rules = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in rules
    sources = [source for value in stages[0].all("COPY") for source in value.split()[:-1]]
    assert {"pyproject.toml", "constraints.txt", "runtime"} <= set(sources)
    for source in sources:
        assert (ROOT / source).exists()
        assert f"!{source}" in rules


def test_versions_are_the_ones_that_are_tested(kind: str, stages: list[Stage]) -> None:
    (install,) = stages[0].all("RUN")
    assert "--constraint constraints.txt" in install
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = {
        line.partition("==")[0].lower()
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    (extras,) = re.findall(r"\.\[([^\]]+)\]", install)
    for backend in BACKENDS[kind]:
        chosen = extras.replace("${BACKEND}", backend).split(",")
        assert chosen == [backend, "serve"]
        needed = project["dependencies"] + [
            text for extra in chosen for text in project["optional-dependencies"][extra]
        ]
        names = {Requirement(text).name.lower().replace("-", "_") for text in needed}
        assert names <= {name.replace("-", "_") for name in pinned}


def test_it_is_not_root_and_writes_nowhere_but_its_volume(stages: list[Stage]) -> None:
    final = stages[-1]
    user = final.last("USER").split(":")[0]
    assert int(user) > 999
    assert final.environment()["PYTHONDONTWRITEBYTECODE"] == "1"
    for value in final.all("VOLUME"):
        (volume,) = json.loads(value)
        assert final.environment()["XDG_CACHE_HOME"] == volume
        assert any(copy.endswith(f" {volume}") and user in copy for copy in final.all("COPY"))


def test_its_settings_are_the_servers(kind: str, stages: list[Stage]) -> None:
    environment = stages[-1].environment()
    for backend in BACKENDS[kind]:
        given = {name: value.replace("${BACKEND}", backend) for name, value in environment.items()}
        settings = read_settings({}, given)
        assert (settings.host, settings.bundle) == ("0.0.0.0", Path("/bundle"))  # noqa: S104
        assert settings.backend in {"auto", backend}
    assert json.loads(stages[-1].last("ENTRYPOINT")) == ["runtime", "serve"]
    assert int(stages[-1].last("EXPOSE")) == settings.port == int(environment["FRACTURE_PORT"])


def test_the_health_check_tells_life_from_death(
    kind: str, stages: list[Stage], tmp_path: Path
) -> None:
    program, *arguments = stages[-1].health_check()
    assert program == "python"

    def check(port: str) -> int:
        proxy = "http://127.0.0.1:9"  # as hosts give it to their containers; nobody is there
        environment = {"FRACTURE_PORT": port, "http_proxy": proxy, "HTTP_PROXY": proxy}
        words = [sys.executable, *arguments]
        return subprocess.run(words, env=environment, capture_output=True, check=False).returncode

    with live(Stub(open_stand_in(tmp_path / "bundle"))) as address:
        assert check(address.rpartition(":")[2]) == 0
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        assert check(str(unused.getsockname()[1])) != 0


def test_docker_waits_as_long_as_the_server_drains(kind: str) -> None:
    (seconds,) = re.findall(r"--stop-timeout (\d+)", FILES[kind].read_text())
    assert int(seconds) >= read_settings({}, {}).drain + STOP_SECONDS
