"""Reads the syntax tree of modules that use TensorRT and checks every use against the API of one version.

Types come from annotations (``engine: trt.ICudaEngine``), constructors, return types and properties. If the type of an
object is unknown, a member with a name of TensorRT's API is reported too, so that no use goes unchecked.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from support.tensorrt_standin import (
    RTX_VERSIONS,
    Api,
    Signature,
    class_of,
    is_enum,
    parse_signatures,
    property_type,
    read_api,
)

GENERATIONS = {
    "8": ("8.6.0",),
    "10": ("10.3.0", "10.13.3.9", "10.16.1.11", "rtx_1.4.0.76"),
    "11": ("11.4.0.106", "rtx_1.7.1.116"),
}
# Names of TensorRT's members that are common in Python too. On an untyped object they are not reported.
ORDINARY = frozenset(
    {"run", "name", "shape", "dtype", "path", "log", "clear", "reset", "type", "node", "size", "value", "line", "file"}
    | {"code", "desc", "flags", "engine", "runtime", "logger", "profile", "func", "serialize", "query", "update"}
    | {"precision", "refit", "metadata", "device_memory", "location", "numpy", "nbytes", "combine", "ERROR", "INFO"}
)


@dataclass
class Report:
    """The uses that were checked, and the problems found."""

    uses: set[str] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)


def versions_of(function: str) -> tuple[str, ...]:
    """Return the versions that a function may run on: those of its ``_trt...`` or ``_rtx`` ending, or all."""
    if function.endswith("_rtx"):
        return RTX_VERSIONS
    found = re.search(r"_trt(\d+(?:_\d+)*)$", function)
    names = found.group(1).split("_") if found else list(GENERATIONS)
    return tuple(version for name in names for version in GENERATIONS[name])


def check_modules(paths: Iterable[Path], version: str) -> Report:
    """Check modules against one version. Functions for other versions are skipped."""
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in paths}
    attributes: dict[str, str] = {}
    returns: dict[str, str | list[str]] = {}
    for tree in trees.values():
        _collect_types(tree, attributes, returns)
    report = Report()
    for path, tree in trees.items():
        checker = _Checker(path.name, version, attributes, returns, report)
        checker.visit(tree)
    return report


def _annotation(node: ast.expr | None) -> str | None:
    text = ast.unparse(node) if node is not None else ""
    found = re.match(r"trt\.(\w+)", text)
    return found.group(1) if found else None


def _collect_types(tree: ast.AST, attributes: dict[str, str], returns: dict[str, str | list[str]]) -> None:
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign) and (kind := _annotation(node.annotation)):
            target = node.target
            if isinstance(target, ast.Attribute | ast.Name):
                attributes[target.attr if isinstance(target, ast.Attribute) else target.id] = kind
        if isinstance(node, ast.FunctionDef) and node.returns is not None:
            text = ast.unparse(node.returns)
            if kind := _annotation(node.returns):
                returns[node.name] = kind
            elif text.startswith("tuple[trt."):
                returns[node.name] = re.findall(r"trt\.(\w+)", text)
            elif text.startswith("dict[str, trt."):
                returns[node.name] = ["", *re.findall(r"trt\.(\w+)", text)]


class _Checker(ast.NodeVisitor):
    def __init__(
        self, file: str, version: str, attributes: dict[str, str], returns: dict[str, str | list[str]], report: Report
    ) -> None:
        self.file, self.version = file, version
        self.api: Api = read_api(version)
        self.attributes, self.returns, self.report = attributes, returns, report
        self.scopes: list[dict[str, str]] = [{}]
        self.ever = {
            name
            for other in (item for group in GENERATIONS.values() for item in group)
            for kind, members in read_api(other).items()
            if kind != "__top_level__"
            for name in members
        }

    # -- scopes -------------------------------------------------------------------------------------------------------

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        if self.version not in versions_of(node.name):
            return
        scope = {}
        for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs):
            if kind := _annotation(argument.annotation):
                self.look_up_class(kind, node)
                scope[argument.arg] = kind
        self.scopes.append(scope)
        for statement in node.body:
            self.visit(statement)
        self.scopes.pop()

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for base in node.bases:
            kind = _annotation(base)
            if kind and self.look_up_class(kind, node):
                self.check_overrides(node, kind)
        self.generic_visit(node)

    def check_overrides(self, node: ast.ClassDef, kind: str) -> None:
        for method in (item for item in node.body if isinstance(item, ast.FunctionDef)):
            text = self.api[kind].get(method.name)
            if text is None:
                self.problem(method, f"{kind} has no method {method.name} to override")
                continue
            names = [argument.arg for argument in method.args.args][1:]
            self.report.uses.add(f"{kind}.{method.name}")
            if method.name != "__init__" and names != [item.name for item in parse_signatures(text)[0].parameters]:
                self.problem(method, f"{kind}.{method.name}({', '.join(names)}) overrides {text}")

    def visit_Assign(self, node: ast.Assign) -> None:
        self.visit(node.value)
        for target in node.targets:
            if isinstance(target, ast.Attribute):
                self.check_set(target)
            self.remember(target, node.value)

    def remember(self, target: ast.expr, value: ast.expr) -> None:
        kind = self.infer(value)
        if isinstance(target, ast.Name):
            self.scopes[-1][target.id] = kind if isinstance(kind, str) else ""
        elif isinstance(target, ast.Tuple):
            kinds: list[str | list[str] | None] = list(kind) if isinstance(kind, list) else []
            if isinstance(value, ast.GeneratorExp):  # low, best, high = (trt.Dims(...) for ...)
                kinds = [self.infer(value.elt)] * len(target.elts)
            for element, one in zip(target.elts, kinds, strict=False):
                if isinstance(element, ast.Name) and isinstance(one, str):
                    self.scopes[-1][element.id] = one

    def visit_comprehension_scope(self, node: ast.ListComp | ast.GeneratorExp | ast.SetComp | ast.DictComp) -> None:
        self.scopes.append({})
        for part in node.generators:
            self.visit(part.iter)
            source = part.iter
            if isinstance(part.target, ast.Name):
                kind = self.element_of(source)
                self.scopes[-1][part.target.id] = kind or ""
            for condition in part.ifs:
                self.visit(condition)
        for name in ("elt", "key", "value"):
            if hasattr(node, name):
                self.visit(getattr(node, name))
        self.scopes.pop()

    visit_ListComp = visit_GeneratorExp = visit_SetComp = visit_DictComp = visit_comprehension_scope  # noqa: N815

    def element_of(self, source: ast.expr) -> str | None:
        """Return the type of an element of a list of TensorRT objects."""
        if isinstance(source, ast.Name):
            found = next((scope[source.id] for scope in reversed(self.scopes) if source.id in scope), "")
            return found.removeprefix("list:") if found.startswith("list:") else None
        kind = self.infer(source)
        return kind.removeprefix("list:") if isinstance(kind, str) and kind.startswith("list:") else None

    # -- uses ---------------------------------------------------------------------------------------------------------

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.generic_visit(node)
        owner = self.infer(node.value)
        if owner == "trt":
            if node.attr != "__version__":
                self.look_up_class(node.attr, node)
        elif isinstance(owner, str) and owner.startswith("class:"):
            self.look_up(owner[6:], node.attr, node)
        elif isinstance(owner, str) and owner in self.api:
            self.look_up(owner, node.attr, node)
        elif node.attr in self.ever - ORDINARY and not node.attr.startswith("__"):
            self.problem(node, f"{ast.unparse(node)}: a member of TensorRT's on an object of unknown type")

    def visit_Call(self, node: ast.Call) -> None:
        self.generic_visit(node)
        function = node.func
        if not isinstance(function, ast.Attribute):
            return
        owner = self.infer(function.value)
        if owner == "trt":
            self.check_call(node, function.attr, "__init__", bound=True)
        elif isinstance(owner, str) and owner.startswith("class:"):
            self.check_call(node, owner[6:], function.attr, bound=False)
        elif isinstance(owner, str) and owner in self.api:
            self.check_call(node, owner, function.attr, bound=True)

    def check_call(self, node: ast.Call, kind: str, member: str, *, bound: bool) -> None:
        text = self.api.get(kind, {}).get(member, "")
        if "(" not in text or text.startswith("property"):
            self.problem(node, f"{kind}.{member} cannot be called")
            return
        given = len(node.args) - (0 if bound else 1)
        keywords = {item.arg for item in node.keywords}
        self.report.uses.add(f"{kind}.{member}")
        if not any(self.takes(signature, given, keywords) for signature in parse_signatures(text)):
            self.problem(node, f"{ast.unparse(node)} does not fit {text}")

    @staticmethod
    def takes(signature: Signature, given: int, keywords: set[str | None]) -> bool:
        names = [item.name for item in signature.parameters]
        rest = names[given:]
        required = {item.name for item in signature.parameters[given:] if not item.optional}
        return given <= len(names) and keywords <= set(rest) and required <= keywords

    def check_set(self, target: ast.Attribute) -> None:
        owner = self.infer(target.value)
        if isinstance(owner, str) and owner in self.api:
            text = self.look_up(owner, target.attr, target)
            if text is not None and "(rw)" not in text:
                self.problem(target, f"{owner}.{target.attr} cannot be set")
        else:
            self.visit(target.value)

    def look_up_class(self, kind: str, node: ast.AST) -> bool:
        self.report.uses.add(kind)
        if kind not in self.api:
            self.problem(node, f"there is no {kind}")
        return kind in self.api

    def look_up(self, kind: str, member: str, node: ast.AST) -> str | None:
        text = self.api.get(kind, {}).get(member)
        self.report.uses.add(f"{kind}.{member}")
        if text is None and not (kind == "IHostMemory" and member == "__bytes__"):
            self.problem(node, f"{kind} has no {member}")
        return text

    def problem(self, node: ast.AST, text: str) -> None:
        self.report.problems.append(f"{self.file}:{getattr(node, 'lineno', 0)}: TensorRT {self.version}: {text}")

    # -- types --------------------------------------------------------------------------------------------------------

    def infer(self, node: ast.expr) -> str | list[str] | None:
        """Return ``trt`` for the module, ``class:X`` for a class, ``X`` for an object, a list for a tuple."""
        if isinstance(node, ast.Name):
            found = next((scope[node.id] for scope in reversed(self.scopes) if node.id in scope), None)
            return found or ("trt" if node.id == "trt" else None)
        if isinstance(node, ast.Attribute):
            return self.infer_attribute(node)
        if isinstance(node, ast.Call):
            return self.infer_call(node)
        if isinstance(node, ast.ListComp):
            inner = self.infer_in(node)
            return f"list:{inner}" if inner else None
        return None

    def infer_in(self, node: ast.ListComp) -> str | None:
        kind = self.infer(node.elt)
        return kind if isinstance(kind, str) else None

    def infer_attribute(self, node: ast.Attribute) -> str | None:
        if node.attr in ("trt", "_trt"):
            return "trt"
        owner = self.infer(node.value)
        if owner == "trt":
            return f"class:{node.attr}"
        if isinstance(owner, str) and owner in self.api:
            return class_of(property_type(self.api[owner].get(node.attr, "")) or "", self.api)
        if isinstance(owner, str) and owner.startswith("class:"):
            return owner[6:] if is_enum(self.api.get(owner[6:], {})) else None
        return self.attributes.get(node.attr)

    def infer_call(self, node: ast.Call) -> str | list[str] | None:
        function = node.func
        if isinstance(function, ast.Name):
            return self.returns.get(function.id)
        if not isinstance(function, ast.Attribute):
            return None
        owner = self.infer(function.value)
        if owner == "trt":
            return function.attr
        if isinstance(owner, list) and function.attr == "pop":
            return owner[1]
        if isinstance(owner, str) and owner in self.api:
            text = self.api[owner].get(function.attr, "")
            return class_of(parse_signatures(text)[0].returns, self.api) if "(" in text else None
        return self.returns.get(function.attr)
