"""What deploy/ and the pages about the server say is what the server takes and answers."""

from __future__ import annotations

import json
import re
import shlex
import subprocess

import click
import pytest
import yaml

from openkeypoints.cli import cli
from openkeypoints.cli.keys import keys
from openkeypoints.cli.serve import serve
from openkeypoints.server.config import ServerConfig
from tests.arch.source import ROOT
from tests.live_server import live_server
from tests.unit.engine.stubs import Shop

DEPLOY = ROOT / "deploy"
DOCS = ROOT / "docs"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
MANIFESTS = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text(encoding="utf-8")))
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
FOREIGN_OPTIONS = {"--data-binary"}
MAX_IMAGE_BYTES = 300_000


def instruction(name: str) -> list[str]:
    return json.loads(re.findall(rf"^{name} (\[.*\])$", DOCKERFILE, re.MULTILINE)[-1])


def manifest(kind: str) -> dict:
    return next(entry["spec"] for entry in MANIFESTS if entry["kind"] == kind)


def pod() -> dict:
    return manifest("Deployment")["template"]["spec"]


def started(arguments: list[str]) -> dict:
    """Return what `okp serve` makes of arguments; click refuses those that do not exist."""
    program, command, *options = arguments
    assert (program.rpartition("/")[2], command) == ("okp", "serve")
    # As a part of `okp`: click keeps the help option of a command as its first context had it.
    return serve.make_context("serve", options, **cli.context_settings).params


def commands() -> dict[str, list[str]]:
    entry = instruction("ENTRYPOINT")
    unit = (DEPLOY / "okp.service").read_text(encoding="utf-8")
    return {
        "Dockerfile": [*entry, *instruction("CMD")],
        "compose.yaml": [*entry, *COMPOSE["services"]["openkeypoints"]["command"]],
        "kubernetes.yaml": [*entry, *pod()["containers"][0]["args"]],
        "okp.service": shlex.split(re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)[0]),
    }


@pytest.fixture(scope="module")
def client():
    with live_server(ServerConfig(port=0), open_model=Shop().open) as server:
        yield server.client


@pytest.mark.parametrize("name", ["Dockerfile", "compose.yaml", "kubernetes.yaml", "okp.service"])
def test_the_server_understands_how_it_is_started(name):
    assert started(commands()[name])["port"] == 9001


@pytest.mark.parametrize("name", ["Dockerfile", "compose.yaml"])
def test_a_container_does_not_start_open(name):
    options = started(commands()[name])
    assert options["host"] == "0.0.0.0"
    assert not options["allow_anonymous"]


def test_every_container_runs_as_the_user_of_the_image():
    user = re.findall(r"^USER (\d+):(\d+)$", DOCKERFILE, re.MULTILINE)[-1]
    context = pod()["securityContext"]
    assert user == (str(context["runAsUser"]), str(context["runAsGroup"])) == ("10001", "10001")


@pytest.mark.parametrize("probe", ["startupProbe", "readinessProbe", "livenessProbe"])
def test_a_probe_asks_a_route_that_answers_without_a_key(client, probe):
    path = pod()["containers"][0][probe]["httpGet"]["path"]
    assert client.get(path).status_code == 200


def test_the_ports_are_the_one_that_the_server_listens_at():
    assert re.findall(r"^EXPOSE (\d+)$", DOCKERFILE, re.MULTILINE) == ["9001"]
    assert COMPOSE["services"]["openkeypoints"]["ports"] == ["127.0.0.1:9001:9001"]
    assert pod()["containers"][0]["ports"] == [{"name": "http", "containerPort": 9001}]


def test_a_pod_has_the_time_that_a_server_takes_to_stop():
    grace = pod()["terminationGracePeriodSeconds"]
    sleep = pod()["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert grace > sleep + ServerConfig().drain_s


@pytest.mark.client
@pytest.mark.timeout(300)
def test_hadolint_kubernetes_and_systemd_have_nothing_to_say():
    checked = subprocess.run([DEPLOY / "check.sh"], check=False, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert checked.stdout.count(" passed for resource ") == len(MANIFESTS)


def test_the_page_names_options_that_exist():
    commands = [serve, *keys.commands.values()]
    there = {
        name for c in commands for p in c.params if isinstance(p, click.Option) for name in p.opts
    }
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", (DOCS / "server.md").read_text("utf-8")))
    assert named - there <= FOREIGN_OPTIONS


def test_the_page_names_metrics_that_exist(client):
    named = re.findall(r"`((?:http|num|avg|okp)_[a-z_]+)`", (DOCS / "server.md").read_text("utf-8"))
    text = client.get("/metrics").text
    assert len(named) > 5
    assert [name for name in named if f"# TYPE {name} " not in text] == []


@pytest.mark.parametrize("path", sorted((DOCS / "images").glob("*.png")), ids=lambda p: p.name)
def test_a_picture_of_the_pages_is_small(path):
    assert path.stat().st_size < MAX_IMAGE_BYTES


@pytest.mark.parametrize("name", ["server.md", "deploy.md"])
def test_what_a_page_links_to_is_there(name):
    links = re.findall(r"\]\(([^)#:]+)\)", (DOCS / name).read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if not (DOCS / link).exists()] == []
