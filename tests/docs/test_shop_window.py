"""README, CONTRIBUTING, workflows and the files around a release agree with the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from hatchling.builders.wheel import WheelBuilder

import rrid_edge
from rrid_edge.cli.app import COMMANDS
from rrid_train.demo.config import DemoConfig
from rrid_train.demo.plan import plan_demo
from support.programs import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]


def _workflow(name: str) -> dict:
    # YAML 1.1 reads the key "on" as true.
    return yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text(encoding="utf-8"))


def _section(page: str, title: str) -> str:
    (text,) = re.findall(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", page, re.DOTALL | re.MULTILINE)[:1]
    return text


def _commands_of(job: dict) -> str:
    return "\n".join(step.get("run", "") for step in job["steps"])


def test_the_readme_fits_two_screens():
    assert len(README.splitlines()) <= 95


def test_the_readme_has_every_command_once():
    rows = re.findall(r"^\| `rrid-edge ([\w-]+)` \| \S", README, re.MULTILINE)
    assert sorted(rows) == sorted(COMMANDS)


def test_the_picture_names_the_near_twins_that_the_demo_draws():
    plan = plan_demo(DemoConfig())
    person, (twin, part) = plan.query.person, plan.query_twin or (0, "")
    assert f" {twin:04d} is {person:04d}'s near-twin: only the {part} differ" in README


def test_ci_runs_the_test_command_of_the_readme():
    assert re.search(r"^make test  ", README, re.MULTILINE)
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    assert {"make check", "make test", "make docs"} <= set(lines)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page: Path):
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        assert target.startswith("https://") or (page.parent / target).exists(), target


def test_every_room_is_in_the_table():
    named = re.findall(r"^\| `([\w.]+/?)` \|", _section(CONTRIBUTING, "The rooms of `rrid_edge`"), re.MULTILINE)
    package = Path(rrid_edge.__file__).parent
    rooms = [f"{path.name}/" for path in package.iterdir() if (path / "__init__.py").is_file()]
    loose = [path.name for path in package.glob("*.py") if path.name != "__init__.py"]
    assert sorted(named) == sorted(rooms + loose)


def test_every_package_of_the_workshop_is_in_the_table():
    named = re.findall(r"^\| `(\w+/\w+/)` \|", _section(CONTRIBUTING, "The workshop"), re.MULTILINE)
    assert sorted(named) == sorted(f"{path.parent.relative_to(ROOT)}/" for path in ROOT.glob("*/rrid_*/__init__.py"))


def test_the_floors_are_those_that_are_checked():
    lines = re.DOTALL | re.MULTILINE
    contract = re.findall(r'^containers = \["rrid_edge"\]\nlayers = \[\n(.*?)^\]', PYPROJECT, lines)[0]
    shown = re.findall(r"^```\n(.*?)^```$", _section(CONTRIBUTING, "The floors"), lines)[0]
    assert shown.split("\n")[:-1] == re.findall(r'"([^"]+)"', contract)


def test_the_version_is_the_same_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest, date = re.findall(r"^## \[(\d[\d.]+)\] - (\S+)$", changelog, re.MULTILINE)[0]
    assert rrid_edge.__version__ == newest == citation["version"]
    assert date == str(citation["date-released"])
    assert f"rrid_edge-{newest}-py3-none-any.whl" in README


def test_the_citation_names_the_paper():
    paper = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["preferred-citation"]
    assert paper["title"] == "Relation Network for Person Re-identification"
    assert [author["family-names"] for author in paper["authors"]] == ["Park", "Ham"]
    assert paper["year"] == 2020


def test_ci_checks_tests_and_the_device_without_pytorch():
    jobs = _workflow("ci.yml")["jobs"]
    assert "make check" in _commands_of(jobs["lint"])
    assert jobs["tests"]["strategy"]["matrix"]["python"] == ["3.10", "3.11", "3.12", "3.13"]
    assert "make test" in _commands_of(jobs["tests"])
    wheel = _commands_of(jobs["wheel"])
    for command in ("python -m build", "dist/*.whl)[cpu]", 'rrid-edge" --help', 'rrid-edge" doctor', "torch"):
        assert command in wheel
    assert "mkdocs build --strict" in _commands_of(_workflow("docs.yml")["jobs"]["build"])


def test_a_release_stores_no_password():
    workflow = _workflow("release.yml")
    assert workflow[True] == {"push": {"tags": ["v*"]}}
    assert workflow["permissions"] == {"contents": "read"}
    publish = workflow["jobs"]["publish"]
    assert publish["permissions"] == {"id-token": "write"}
    assert publish["steps"][-1]["uses"].startswith("pypa/gh-action-pypi-publish@")
    assert "secrets." not in (ROOT / ".github" / "workflows" / "release.yml").read_text()


@pytest.mark.parametrize("name", ["bug", "feature"])
def test_an_issue_form_is_complete(name):
    form = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / f"{name}.yml").read_text(encoding="utf-8"))
    assert {"name", "description", "body"} <= set(form)
    assert all(item["attributes"]["label"] for item in form["body"])
    identifiers = [item["id"] for item in form["body"]]
    assert len(identifiers) == len(set(identifiers))


def test_no_registry_and_no_folder_of_one_machine_is_named():
    files = [
        *PAGES,
        *(ROOT / ".github").rglob("*.yml"),
        ROOT / "mkdocs.yml",
        ROOT / "CITATION.cff",
        ROOT / "SECURITY.md",
    ]
    for path in files:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"\bpypi\.org|pythonhosted|(?<![\w.])/(?:home|root|work|tmp)/", text), path


def test_the_wheel_holds_the_page_of_the_service():
    built = {file.distribution_path for file in WheelBuilder(str(ROOT)).recurse_included_files()}
    page = {f"rrid_edge/serve/page/{path.name}" for path in (ROOT / "rrid_edge" / "serve" / "page").iterdir()}
    assert {"rrid_edge/serve/page/index.html", "rrid_edge/serve/page/style.css"} <= page <= built


def test_the_extra_of_the_service_is_pinned_for_the_tests():
    extra = re.findall(r'"([a-z-]+)>=', re.findall(r"^serve = \[(.*?)^\]", PYPROJECT, re.DOTALL | re.MULTILINE)[0])
    pinned = re.findall(r"^([\w-]+)==", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert set(extra) == {"fastapi", "prometheus-client", "python-multipart", "sse-starlette", "starlette", "uvicorn"}
    assert set(extra) <= {name.replace("_", "-") for name in pinned}
