"""Do what ``deploy/Dockerfile`` does, without a container: in a clean virtual environment of this machine.

It copies what the build stage copies, runs the RUN commands of that stage, starts the image's command on a small
gallery, and runs its health check. It needs the package index, and takes some minutes and 1 GB. Usage:

    python tools/check_image.py [--extras openvino,serve,watch]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
_START_S = 60.0


@dataclass(frozen=True)
class Stage:
    """One stage of a Dockerfile.

    Attributes:
        base: what ``FROM`` names.
        name: after ``AS``; empty if there is none.
        instructions: the others, in order: name in upper case, and the rest of the line.
    """

    base: str
    name: str
    instructions: tuple[tuple[str, str], ...]

    def all(self, name: str) -> list[str]:
        """The arguments of all instructions of this name."""
        return [rest for kind, rest in self.instructions if kind == name]


def read_dockerfile(text: str) -> tuple[dict[str, str], list[Stage]]:
    """The defaults of the global arguments, and the stages. Lines that go on are joined, comments are left out."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    arguments: dict[str, str] = {}
    stages: list[Stage] = []
    for line in filter(str.strip, joined.splitlines()):
        kind, _, rest = line.strip().partition(" ")
        kind, rest = kind.upper(), " ".join(rest.split())
        if kind == "FROM":
            base, _, name = re.sub(r"(?i)\s+as\s+", " AS ", rest).partition(" AS ")
            stages.append(Stage(base, name, ()))
        elif stages:
            last = stages[-1]
            stages[-1] = Stage(last.base, last.name, (*last.instructions, (kind, rest)))
        else:
            name, _, value = rest.partition("=")
            arguments[name] = value
    return arguments, stages


def copied_sources(stage: Stage) -> list[tuple[list[str], str]]:
    """Sources in the checkout and their destination, per COPY of a stage."""
    lines = [rest.split() for rest in stage.all("COPY") if not rest.startswith("--from=")]
    return [(words[:-1], words[-1]) for words in lines]


def build(stage: Stage, folder: Path, extras: str) -> Path:
    """Copy and run what the build stage does; returns the environment."""
    source, environment = folder / "source", folder / "opt"
    source.mkdir()
    for names, to in copied_sources(stage):
        for name in names:
            place = source / to / (Path(name).name if to.endswith("/") else "")
            place.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, place, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / name, place)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    for command in stage.all("RUN"):
        here = command.replace("/opt/rrid-edge", str(environment))
        here = re.sub(r"^python3\b", sys.executable, here)
        print(f"$ {here}", flush=True)
        subprocess.run(["bash", "-ec", here], cwd=source, env={**clean, "EXTRAS": extras}, check=True)
    return environment


def serve_and_ask(stage: Stage, environment: Path, folder: Path) -> None:
    """Start the image's command on a small gallery, and run its health check until it passes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    _furnish(folder, environment / "bin" / "rrid-edge")
    command = [*json.loads(stage.all("ENTRYPOINT")[0]), *json.loads(stage.all("CMD")[0])]
    here = {"/galleries/main": str(folder / "gallery"), "/run/secrets/tokens": str(folder / "tokens")}
    command = [here.get(word, word) for word in command]
    clean = {"PATH": f"{environment / 'bin'}:/usr/bin:/bin", "XDG_STATE_HOME": str(folder), "HOME": str(folder)}
    server = subprocess.Popen([*command, "--port", str(port)], env=clean, cwd=folder)
    try:
        _wait_until_healthy(stage, environment, port, server)
    finally:
        server.send_signal(signal.SIGTERM)
        code = server.wait(20)
    if code:
        raise SystemExit(f"the service ended with exit code {code} after SIGTERM; expected 0")


def _wait_until_healthy(stage: Stage, environment: Path, port: int, server: subprocess.Popen[bytes]) -> None:
    (check,) = stage.all("HEALTHCHECK")
    words = json.loads(check[check.index("[") :])
    asked = [word.replace("/opt/rrid-edge", str(environment)).replace(":8760/", f":{port}/") for word in words]
    until = time.monotonic() + _START_S
    while subprocess.run(asked, capture_output=True, check=False).returncode:
        if time.monotonic() > until or server.poll() is not None:
            raise SystemExit("the health check did not pass")
        time.sleep(0.2)


def _furnish(folder: Path, program: Path) -> None:
    """Write a small model, a gallery of twelve crops, and tokens."""
    sys.path.insert(0, str(ROOT / "tests"))
    from support.onnx_models import save_tiny_model
    from support.pictures import save_crops

    model = save_tiny_model(folder / "models" / "rrid.onnx")
    save_crops(folder / "gallery", 12)
    subprocess.run([program, "index", folder / "gallery", "--model", model], check=True)
    (folder / "tokens").write_text("admin 0123456789abcdef0123456789abcdef desk\n")
    (folder / "tokens").chmod(0o600)


def main() -> None:
    """Build, serve, ask."""
    arguments, stages = read_dockerfile(DOCKERFILE.read_text("utf-8"))
    build_stage = next(stage for stage in stages if stage.name == "build")
    extras = next(rest for rest in build_stage.all("ARG") if rest.startswith("EXTRAS=")).partition("=")[2]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--extras", default=extras, help="of the package, as the build argument EXTRAS")
    chosen = parser.parse_args()
    print(f"base of the image: {arguments['BASE']}; here: Python {sys.version.split()[0]}")
    with tempfile.TemporaryDirectory() as folder:
        environment = build(build_stage, Path(folder), chosen.extras)
        serve_and_ask(stages[-1], environment, Path(folder))
    print("the image's steps work here: built, served, healthy, ended by SIGTERM")


if __name__ == "__main__":
    main()
