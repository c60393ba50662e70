"""The live view of a meter whose tool runs in a container: on this host's loopback, and on nothing else."""

from __future__ import annotations

import http.client
import re
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.project import LAB, Project
from tests.test_power_commands import start, until_it_says
from tools import trace

pytestmark = [pytest.mark.docker, pytest.mark.tool]
Docker = Callable[..., str]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, docker: Docker) -> Iterator[Project]:
    project = Project.copy(tmp_path_factory.mktemp("docker") / "project")
    project.add_tool("wave", LAB / "wave.py", LAB / "meter" / "requirements.txt", "[*meter, *tool]")
    built = project.call(project.argv("images", "build", "wave", "--offline-base"))
    assert built.returncode == 0, built.stderr
    yield project
    docker("image", "rm", "mobile-accelerator/wave:0.1.0")


def status(address: str, port: int) -> int:
    """What the page answers there to a browser that came by its right name; 0 where nobody listens."""
    connection = http.client.HTTPConnection(address, port, timeout=5)
    try:
        connection.request("GET", "/", headers={"Host": f"127.0.0.1:{port}"})
        return connection.getresponse().status
    except ConnectionRefusedError:
        return 0
    finally:
        connection.close()


def test_page_from_a_container(project: Project, docker: Docker, tmp_path: Path) -> None:
    file = tmp_path / "trace.parquet"
    runner = start(project, "live", "-o", file, engine="docker")
    assert runner.stderr
    url = re.search(r"http://127\.0\.0\.1:(\d+)/", until_it_says(runner.stderr, "live view:"))
    assert url
    port = int(url[1])
    until_it_says(runner.stderr, "waiting for the first sample")
    assert status("127.0.0.1", port) == 200
    listening = subprocess.check_output(["ss", "-Hltn", f"sport = :{port}"], text=True).splitlines()
    assert [line.split()[3] for line in listening] == [f"127.0.0.1:{port}"]
    others = {address[4][0] for address in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    others |= {
        docker("network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Subnet}}").strip()
    }
    for address in {re.sub(r"\.0/\d+$", ".1", other) for other in others} - {"127.0.0.1", "127.0.1.1"}:
        assert status(address, port) == 0, address
    runner.send_signal(signal.SIGINT)
    said, errors = runner.communicate(timeout=60)
    assert runner.returncode == 0, errors
    assert "simulated" in said
    assert trace.read(file).meta.complete
    label = f"label=mobile-accelerator.work={project.folder / 'work' / 'power'}"
    assert not docker("ps", "-aq", "--filter", label).split()


def test_a_recording_has_no_network(project: Project, docker: Docker, tmp_path: Path) -> None:
    runner = start(project, "record", "-o", tmp_path / "trace.parquet", engine="docker")
    assert runner.stderr
    until_it_says(runner.stderr, "waiting for the first sample")
    (mine,) = docker("ps", "-q", "--filter", "ancestor=mobile-accelerator/wave:0.1.0").split()
    assert docker("inspect", "--format", "{{.HostConfig.NetworkMode}}", mine).strip() == "none"
    runner.send_signal(signal.SIGINT)
    assert runner.wait(60) == 0
    runner.communicate()
