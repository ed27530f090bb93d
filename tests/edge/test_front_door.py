"""The names that ``import rrid_edge`` promises."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import rrid_edge
from support.programs import ROOT, programs_of

NAMES = sorted(set(rrid_edge.__all__) - {"__version__"})
PAGE = ROOT / "docs" / "python.md"


def _run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_importing_the_package_loads_nothing_heavy():
    loaded = {name.split(".")[0] for name in _run("import rrid_edge, sys; print(*sys.modules)").split()}
    assert "rrid_edge" in loaded
    assert not loaded & {"numpy", "PIL", "typer", "rich", "onnxruntime", "openvino", "torch", "onnx", "pymilvus"}
    own = {name for name in _run("import rrid_edge, sys; print(*sys.modules)").split() if name.startswith("rrid_edge")}
    assert own == {"rrid_edge"}


def test_a_name_is_loaded_on_first_use_and_kept():
    code = (
        "import sys, rrid_edge\n"
        "print('rrid_edge.errors' in sys.modules)\n"
        "first = rrid_edge.RridEdgeError\n"
        "print('rrid_edge.errors' in sys.modules, 'numpy' in sys.modules, 'RridEdgeError' in vars(rrid_edge))\n"
    )
    assert _run(code).split() == ["False", "True", "False", "True"]


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'rrid_edge' has no attribute 'open_engin'"):
        _ = rrid_edge.open_engin  # type: ignore[attr-defined]
    with pytest.raises(ImportError, match="open_engin"):
        exec("from rrid_edge import open_engin")


def test_dir_shows_every_name_before_it_is_loaded():
    shown = _run("import rrid_edge; print(*dir(rrid_edge))").split()
    assert set(rrid_edge.__all__) <= set(shown)


def test_no_name_hides_a_module():
    modules = {path.stem for path in Path(rrid_edge.__file__).parent.iterdir() if not path.name.startswith("_")}
    assert not modules & set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_resolves_to_something_documented_and_annotated(name):
    value = getattr(rrid_edge, name)
    assert value.__name__ == name
    assert len(inspect.getdoc(value) or "") > 20
    if inspect.isfunction(value):
        signature = inspect.signature(value)
        assert signature.return_annotation is not inspect.Signature.empty
        assert all(item.annotation is not inspect.Parameter.empty for item in signature.parameters.values())


@pytest.mark.parametrize("name", rrid_edge.__all__)
def test_a_name_is_explained_and_used_on_the_page(name):
    text = PAGE.read_text(encoding="utf-8")
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    assert re.search(rf"`{name}\b", prose)
    if name not in {"Engine", "Gallery", "Match", "MatchResult", "ModelSpec", "__version__"}:  # contracts and answers
        assert f"rrid_edge.{name}" in "\n".join(programs_of(PAGE))


def test_the_page_names_nothing_that_is_not_public():
    lines = "\n".join(programs_of(PAGE)).splitlines()
    used = set(re.findall(r"\brrid_edge\.(\w+)", "\n".join(line for line in lines if not line.startswith("from "))))
    assert used <= set(rrid_edge.__all__)
    modules = {found[1] for line in lines if (found := re.match(r"from rrid_edge\.(\w+)", line))}
    assert modules <= {"integrations", "people", "ranking"}  # the page says that these packages are public too


def test_type_checkers_see_the_same_names():
    text = Path(rrid_edge.__file__).read_text(encoding="utf-8")
    imported = {
        (module, name)
        for module, names in re.findall(r"^    from rrid_edge\.([\w.]+) import (.+)$", text, re.MULTILINE)
        for name in names.split(", ")
    }
    assert imported == {(module, name) for name, module in rrid_edge._MODULES.items()}
    assert {name for _, name in imported} == set(NAMES)
    assert (Path(rrid_edge.__file__).parent / "py.typed").is_file()
