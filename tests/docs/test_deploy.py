"""The files of ``deploy/`` say what they should, as far as it shows without a container or a running systemd."""

from __future__ import annotations

import configparser
import json
import re
import shutil
import subprocess
import sys

import pytest
import yaml

from check_image import copied_sources, read_dockerfile
from support.programs import ROOT

DEPLOY = ROOT / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
ARGUMENTS, STAGES = read_dockerfile((DEPLOY / "Dockerfile").read_text("utf-8"))
FILES = sorted(path for path in DEPLOY.rglob("*") if path.is_file())
INSTRUCTIONS = {
    *("ARG", "RUN", "WORKDIR", "COPY", "ENV", "USER"),
    *("VOLUME", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD"),
}
COMPOSE_KEYS = {
    *("image", "build", "restart", "init", "read_only", "tmpfs", "cap_drop", "security_opt", "stop_grace_period"),
    *("command", "ports", "secrets", "volumes", "healthcheck", "network_mode", "profiles", "environment"),
}


def test_a_dockerfile_is_read_by_instruction():
    arguments, stages = read_dockerfile('# c\nARG B=x\nFROM ${B} as one\nRUN a \\\n    b\n\nFROM one\nCMD ["x"]\n')
    assert arguments == {"B": "x"}
    assert [(stage.base, stage.name, stage.instructions) for stage in stages] == [
        ("${B}", "one", (("RUN", "a b"),)),
        ("one", "", (("CMD", '["x"]'),)),
    ]


def test_the_image_is_slim_runs_as_nobody_and_is_checked():
    final = STAGES[-1]
    assert ARGUMENTS == {"BASE": "python:3.12-slim"}
    assert {kind for stage in STAGES for kind, _ in stage.instructions} <= INSTRUCTIONS
    assert [stage.base for stage in STAGES] == ["${BASE}", "python", "python"]
    kinds = [kind for kind, _ in final.instructions]
    assert final.all("USER") == ["10001:10001"]
    assert "RUN" not in kinds[kinds.index("USER") :]
    assert kinds.index("USER") < kinds.index("ENTRYPOINT")
    (check,) = final.all("HEALTHCHECK")
    compile(json.loads(check[check.index("[") :])[-1], "health check", "exec")
    assert "http://127.0.0.1:8760/healthz" in check
    assert json.loads(final.all("ENTRYPOINT")[0]) == ["rrid-edge"]
    assert json.loads(final.all("CMD")[0])[:1] == ["serve"]


def test_everything_that_is_copied_exists_and_passes_the_ignore_file():
    allowed = [line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] == "!"]
    names = [name for stage in STAGES for sources, _ in copied_sources(stage) for name in sources]
    assert sorted(names) == sorted(allowed)
    for name in names:
        assert (ROOT / name).exists(), name


def test_the_image_installs_what_the_wheel_has():
    """All packages of the wheel are copied, and no more."""
    pyproject = (ROOT / "pyproject.toml").read_text("utf-8")
    packages = json.loads(re.findall(r"^packages = (\[.*\])$", pyproject, re.MULTILINE)[0])
    folders = [to for sources, to in copied_sources(STAGES[1]) for _ in sources if to != "./"]
    assert folders == [f"./{package}" for package in packages]
    assert STAGES[1].all("ARG") == ["EXTRAS=openvino,serve,watch"]


@pytest.mark.parametrize(
    "file", sorted(path for path in DEPLOY.rglob("*") if path.is_file()), ids=lambda path: path.name
)
def test_no_registry_and_no_index_is_named(file):
    text = file.read_text("utf-8")
    assert not re.search(r"--index-url|--extra-index|docker\.io|ghcr|quay|nvcr|pypi", text)
    images = re.findall(r"^ARG BASE=(\S+)|image: (?:\$\{\w+:-)?([^\s}]+)", text, re.MULTILINE)
    for image in (base or named for base, named in images):
        assert "." not in image.split("/")[0].split(":")[0], image


def _compose():
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))


def test_the_compose_file_is_hardened_and_its_parts_fit():
    compose = _compose()
    assert set(compose) == {"name", "x-common", "services", "secrets", "volumes"}
    assert list(compose["services"]) == ["serve", "index", "milvus"]
    for service in compose["services"].values():
        assert set(service) <= COMPOSE_KEYS
    for name in ("serve", "index"):
        service = compose["services"][name]
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
        assert service["security_opt"] == ["no-new-privileges:true"]
        build = service["build"]
        assert (DEPLOY / build["context"] / build["dockerfile"]).is_file()
        assert build["args"]["BASE"] == f"${{BASE:-{ARGUMENTS['BASE']}}}"
        mounted = {volume.rpartition(":/")[0] for volume in service["volumes"]}
        assert "state" in mounted
    assert compose["services"]["milvus"]["profiles"] == ["milvus"]
    serve = compose["services"]["serve"]
    assert set(serve["secrets"]) == set(compose["secrets"])
    assert serve["ports"] == ["127.0.0.1:8760:8760"]


def _unit(path):
    parser = configparser.RawConfigParser(strict=False, comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # names keep their case
    parser.read(path)
    return {section: dict(parser[section]) for section in parser.sections()}


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_is_hardened(path):
    service = _unit(path)["Service"]
    assert service["User"] == "rrid-edge"
    assert service["ProtectSystem"] == "strict"
    assert service["CapabilityBoundingSet"] == ""
    for name in (
        "NoNewPrivileges",
        "PrivateTmp",
        "ProtectHome",
        "PrivateDevices",
        "RestrictSUIDSGID",
        "LockPersonality",
    ):
        assert service[name] == "yes", name
    assert service["StateDirectory"] == "rrid-edge"
    assert service["UMask"] == "0077"
    assert "MemoryDenyWriteExecute" not in service  # runtimes compile models to machine code


def test_the_units_run_the_two_commands():
    index, serve = (_unit(path)["Service"]["ExecStart"].split() for path in UNITS)
    assert [path.name for path in UNITS] == ["rrid-edge-index@.service", "rrid-edge-serve.service"]
    assert (index[1], "--watch" in index) == ("index", True)
    assert (serve[1], serve[serve.index("--token-file") + 1]) == ("serve", "%d/tokens")
    assert _unit(UNITS[1])["Service"]["LoadCredential"] == "tokens:/etc/rrid-edge/tokens"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_accepts_the_units(tmp_path):
    for path in UNITS:
        text = path.read_text("utf-8").replace("/opt/rrid-edge/bin/rrid-edge", sys.executable)
        (tmp_path / path.name.replace("@", "@main")).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *map(str, tmp_path.glob("*.service"))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("file", ["nginx.conf", "Caddyfile"])
def test_the_proxies_pass_events_on_at_once_and_bound_uploads(file):
    text = (DEPLOY / "proxy" / file).read_text("utf-8")
    assert text.count("{") == text.count("}")
    assert {"nginx.conf": "proxy_buffering off", "Caddyfile": "flush_interval -1"}[file] in text
    assert "20m" in text.lower()
    assert "127.0.0.1:8760" in text
