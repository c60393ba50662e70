"""An image of a small tool, built as the real ones are, from a package index that only its CA vouches for."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import http.server
import ipaddress
import json
import os
import shutil
import socket
import ssl
import subprocess
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from host import ROOT
from host.compose import Build, Service, load
from host.docker_cli import Console, client
from host.images import build

TAG = f"test-{os.getpid()}"  # other test runs may share the engine
WHEEL = "probe_package-1.0-py3-none-any.whl"


@dataclasses.dataclass(frozen=True)
class Index:
    """A package index: its address, its certificate and its package's sha256."""

    url: str
    certificate: Path
    sha256: str


@pytest.fixture(scope="session")
def docker() -> Callable[..., str]:
    """Run a docker command and return what it prints."""

    def run(*arguments: str) -> str:
        done = subprocess.run([client(), *arguments], check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def console(tmp_path: Path) -> Console:
    return Console(log=tmp_path / "commands.log", note=print)


@pytest.fixture(scope="session")
def index(tmp_path_factory: pytest.TempPathFactory, docker: Callable[..., str]) -> Iterator[Index]:
    """Serve one package over TLS, where containers reach it, with a certificate that nobody else trusts."""
    subnet = docker("network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Subnet}}")
    address = str(ipaddress.ip_network(subnet.strip())[1])  # the host's; its Gateway field may be empty
    folder = tmp_path_factory.mktemp("index")
    wheel = _wheel(folder / "files" / "simple" / "probe-package")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    argv = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=probe"]
    argv += ["-addext", f"subjectAltName=IP:{address}", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(argv, check=True, capture_output=True)
    server = http.server.ThreadingHTTPServer(
        (address, 0), functools.partial(_Quiet, directory=str(folder / "files"))
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    # the handshake belongs to the connection's own thread: a client that refuses must not stop the server
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"https://{address}:{server.server_port}/simple"
    yield Index(url, certificate, hashlib.sha256(wheel.read_bytes()).hexdigest())
    server.shutdown()
    server.server_close()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Leave the test's output alone."""

    def handle(self) -> None:
        try:
            super().handle()
        except (ssl.SSLError, ConnectionError):
            self.close_connection = True  # a client without the certificate


def _wheel(folder: Path) -> Path:
    """Write a wheel with one module; its metadata are what PEP 427 asks for."""
    folder.mkdir(parents=True)
    info = "probe_package-1.0.dist-info"
    with zipfile.ZipFile(folder / WHEEL, "w") as wheel:
        wheel.writestr("probe_package.py", "VALUE = 'from the index'\n")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: probe-package\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", f"probe_package.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n")
    return folder / WHEEL


@pytest.fixture(scope="session")
def probe(
    tmp_path_factory: pytest.TempPathFactory, index: Index, docker: Callable[..., str]
) -> Iterator[Service]:
    """A tool that says what it may do, with the settings of a tool of compose.yaml; its image is built."""
    folder = tmp_path_factory.mktemp("probe")
    for name in ("tools", "images/probe", "work"):
        (folder / name).mkdir(parents=True)
    for name in ("__init__.py", "stage.py", "cli.py"):
        shutil.copy(ROOT / "tools" / name, folder / "tools")
    shutil.copy(Path(__file__).with_name("probe.py"), folder / "tools")
    shutil.copy(ROOT / "images" / "Dockerfile", folder / "images")
    shutil.copy(ROOT / ".dockerignore", folder)
    lock = f"probe-package==1.0 --hash=sha256:{index.sha256}\n"
    (folder / "images" / "probe" / "requirements.txt").write_text(lock)
    (folder / "pip.conf").write_text(f"[global]\nindex-url = {index.url}\n")
    (folder / "work").chmod(0o777)  # the container's user is not the one who runs the tests
    model = load(ROOT / "compose.yaml", {"MOBILE_ACCELERATOR_WORK": str(folder / "work")})["tflite"]
    assert model.build is not None
    service = dataclasses.replace(
        model,
        name="probe",
        image=f"mobile-accelerator/probe:{TAG}",
        build=Build(
            context=folder,
            dockerfile=model.build.dockerfile,
            args={**model.build.args, "TOOL": "probe", "VERSION": TAG},
            secrets={"ca": index.certificate, "pip": folder / "pip.conf"},
        ),
    )
    build([service], Console(log=folder / "build.log", note=print), offline_base=True)
    yield service
    label = f"label=org.opencontainers.image.version={TAG}"
    made = docker("image", "ls", "--quiet", "--filter", label).split()
    docker("image", "rm", "--force", *dict.fromkeys(made))


@pytest.fixture(scope="session")
def run_probe() -> Callable[[Service], dict[str, Any]]:
    """Run a probe's container to its end and return what it found out."""
    from host.engines.container import connect

    def run(service: Service) -> dict[str, Any]:
        sdk = connect()
        container = sdk.containers.create(service.image, **service.container_options())
        try:
            container.start()
            code = container.wait(timeout=60)["StatusCode"]
            output = container.logs().decode()
        finally:
            container.remove(force=True)
            sdk.close()
        assert code == 0, output
        found: dict[str, Any] = json.loads(output)
        return found

    return run


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """Start a registry on a free port of this machine; at the end it is gone, with what it held."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    config = tmp_path / "registry.json"  # JSON is YAML
    storage = {"filesystem": {"rootdirectory": str(tmp_path / "registry")}}
    config.write_text(json.dumps({"version": 0.1, "storage": storage, "http": {"addr": address}}))
    with (tmp_path / "registry.log").open("w") as log:
        process = subprocess.Popen(["docker-registry", "serve", str(config)], stdout=log, stderr=log)
    try:
        _wait_for(address, process)
        yield address
    finally:
        process.terminate()
        process.wait(timeout=30)


def _wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    host, port = address.split(":")
    for _ in range(100):
        assert process.poll() is None, "the registry ended"
        with socket.socket() as probe:
            probe.settimeout(0.1)
            if probe.connect_ex((host, int(port))) == 0:
                return
        threading.Event().wait(0.1)
    pytest.fail("the registry does not answer")
