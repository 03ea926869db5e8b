"""Reads Starlark without running it: which calls a build file makes, with which arguments, as far as that can be told.

Starlark's syntax is a subset of Python's, so :mod:`ast` parses it; the values are computed here, by a small evaluator
that knows texts, numbers, lists, dictionaries, conditions, loops over what is known, and the functions of the tree
itself. Nothing of the tree is imported or executed, and what only Bazel could say (which machine, which version of
Bazel) is ``UNKNOWN``; of a condition that is unknown both branches are read.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crosswheel.building.sources.starlark_labels import loaded, split
from crosswheel.building.sources.starlark_values import (
    UNKNOWN,
    Call,
    Foreign,
    Function,
    Next,
    Return,
    builtin,
    compare,
    item_of,
    method,
    operate,
    part_of,
    returns,
)
from crosswheel.errors import InputError

_STEPS = 400_000
"""Statements and expressions that one reading may take: TensorFlow's largest take some 30,000."""

_DEPTH = 40
"""Calls within calls."""


@dataclass
class Reader:
    """Reads the build files of one tree, and of the ``further`` ones that it loads from, by their repositories' names.

    ``wanted`` says of a call whether it is to be noted; such a call is not followed into the trees' own functions.
    ``calls`` are those, in the order in which Bazel would make them, ``others`` are calls of functions of repositories
    that were not given. ``loaded`` are all repositories that files are loaded from. ``read`` are the files that were
    read, by their paths in the tree (``@NAME//PATH`` in a further one), and ``missing`` those that it lacks.
    """

    root: Path
    wanted: Callable[[str, Mapping[str, Any]], bool]
    further: Mapping[str, Path] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    others: list[Call] = field(default_factory=list)
    read: dict[str, bytes] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    loaded: dict[str, None] = field(default_factory=dict)
    _modules: dict[str, dict[str, Any]] = field(default_factory=dict)
    _workspace: str = ""
    _steps: int = 0
    _depth: int = 0

    def read_file(self, path: str) -> dict[str, Any]:
        """The global names of a file of the tree after it was read. ``InputError`` if it is no Starlark."""
        if path in self._modules:
            return self._modules[path]
        names: dict[str, Any] = {}
        self._modules[path] = names  # before it is read, so that files that load each other come to an end
        content = self._content(path)
        if content is None:
            self.missing.append(path)
            return names
        self.read[path] = content
        try:
            tree = ast.parse(content.decode("utf-8", "replace"))
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            line = getattr(error, "lineno", None)
            where = (path if path.startswith("@") else f"{self.root / path}") + (f":{line}" if line else "")
            raise InputError("this file is not the Starlark that can be read", where=where, why=str(error)) from error
        _Frame(self, names, names, path).run(tree.body)
        return names

    def _content(self, path: str) -> bytes | None:
        repository, inner = split(path)
        root = self.further[repository] if repository else self.root
        file = root / inner
        if not file.resolve().is_relative_to(root.resolve()) or not file.is_file():
            return None
        return file.read_bytes()

    def step(self, where: str) -> None:
        self._steps += 1
        if self._steps > _STEPS:
            raise InputError(
                "this build file computes more than can be read", where=where, hint="is it upstream's own?"
            )

    def load(self, label: str, at: str) -> tuple[str | None, str]:
        """The path of a file that is loaded, None if it is of a repository that was not given; and that repository."""
        repository, path = loaded(label, at)
        if repository in ("", self._workspace):
            return path, ""
        self.loaded[repository] = None
        return (f"@{repository}//{path}", "") if repository in self.further else (None, repository)

    def name_workspace(self, name: str) -> None:
        self._workspace = name

    def declared(self) -> dict[str, dict[str, str]]:
        """What ``native.existing_rules()`` gives: the calls that were noted, by their names."""
        names = [call.arguments.get("name") for call in self.calls]
        return {name: {"name": name} for name in names if isinstance(name, str)}

    def note(self, call: Call) -> None:
        if call.name != "maybe" or call.arguments.get("name") not in self.declared():
            self.calls.append(call)

    def enter(self, where: str) -> None:
        self._depth += 1
        if self._depth > _DEPTH:
            raise InputError("the functions of this build file call each other without end", where=where)

    def leave(self) -> None:
        self._depth -= 1


class _Frame:
    """One file's top, or one call of a function: local names over global ones."""

    def __init__(self, reader: Reader, names: dict[str, Any], under: dict[str, Any], file: str) -> None:
        self.reader = reader
        self.names = names
        self.under = under
        self.file = file
        self._unsure = 0

    def where(self, node: ast.AST) -> str:
        return f"{self.file}:{getattr(node, 'lineno', 1)}"

    # --- statements

    def run(self, body: list[ast.stmt]) -> None:
        for statement in body:
            self.reader.step(self.where(statement))
            self._statement(statement)

    def _statement(self, node: ast.stmt) -> None:
        if isinstance(node, ast.FunctionDef):
            self.names[node.name] = Function(node, self.under, self.file)
        elif isinstance(node, ast.Assign):
            value = self.value(node.value)
            for target in node.targets:
                self._assign(target, value)
        elif isinstance(node, ast.AugAssign):
            old = self.value(node.target)
            self._assign(node.target, operate(node.op, old, self.value(node.value)))
        elif isinstance(node, ast.Expr):
            self.value(node.value)
        elif isinstance(node, ast.If):
            self._if(node)
        elif isinstance(node, ast.For):
            self._for(node)
        elif isinstance(node, ast.Return):
            value = self.value(node.value) if node.value else None
            if not self._unsure:
                raise Return(value)
        elif isinstance(node, ast.Continue | ast.Break) and not self._unsure:
            raise Next(isinstance(node, ast.Break))

    def _if(self, node: ast.If) -> None:
        test = self.value(node.test)
        if test is not UNKNOWN:
            self.run(node.body if test else node.orelse)
            return
        self._unsure += 1
        self.run(node.body)
        self.run(node.orelse)
        self._unsure -= 1

    def _for(self, node: ast.For) -> None:
        items = self.value(node.iter)
        known = isinstance(items, list | tuple | dict)
        if not known:
            self._unsure += 1
        for item in list(items) if known else [UNKNOWN]:
            self._assign(node.target, item)
            try:
                self.run(node.body)
            except Next as jump:
                if jump.ends:
                    break
        if not known:
            self._unsure -= 1

    def _assign(self, target: ast.expr, value: Any) -> None:
        if isinstance(target, ast.Name):
            self.names[target.id] = value
        elif isinstance(target, ast.Tuple | ast.List):
            known = isinstance(value, list | tuple) and len(value) == len(target.elts)
            for number, part in enumerate(target.elts):
                self._assign(part, value[number] if known else UNKNOWN)
        elif isinstance(target, ast.Subscript):
            holder, key = self.value(target.value), self.value(target.slice)
            if isinstance(holder, dict) and isinstance(key, str | int):
                holder[key] = value

    # --- expressions

    def value(self, node: ast.expr) -> Any:
        """What an expression is, or ``UNKNOWN``."""
        self.reader.step(self.where(node))
        match node:
            case ast.Constant():
                return node.value
            case ast.Name():
                return self._name(node.id)
            case ast.List():
                return [self.value(item) for item in node.elts]
            case ast.Tuple():
                return tuple(self.value(item) for item in node.elts)
            case ast.Dict():
                return self._dict(node)
            case ast.BinOp():
                return operate(node.op, self.value(node.left), self.value(node.right))
            case ast.BoolOp():
                return self._and_or(node)
            case ast.UnaryOp(op=ast.Not()):
                value = self.value(node.operand)
                return UNKNOWN if value is UNKNOWN else not value
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int(number))):
                return -number
            case ast.Compare():
                return self._compare(node)
            case ast.IfExp():
                test = self.value(node.test)
                return UNKNOWN if test is UNKNOWN else self.value(node.body if test else node.orelse)
            case ast.Subscript():
                return self._item(node)
            case ast.ListComp():
                return self._comprehension(node)
            case ast.Attribute():
                return self._attribute(node)
            case ast.Call():
                return self._call(node)
        return UNKNOWN

    def _name(self, name: str) -> Any:
        for names in (self.names, self.under):
            if name in names:
                return names[name]
        return {"True": True, "False": False, "None": None}.get(name, Foreign(name, ""))

    def _dict(self, node: ast.Dict) -> dict[Any, Any]:
        found = {}
        for key, value in zip(node.keys, node.values, strict=True):
            name = self.value(key) if key is not None else UNKNOWN
            if isinstance(name, str | int):
                found[name] = self.value(value)
        return found

    def _and_or(self, node: ast.BoolOp) -> Any:
        ends = isinstance(node.op, ast.Or)
        last: Any = UNKNOWN
        unsure = False
        for part in node.values:
            last = self.value(part)
            if last is UNKNOWN:
                unsure = True
            elif bool(last) is ends:
                return UNKNOWN if unsure and not isinstance(last, bool) else last
        return UNKNOWN if unsure else last

    def _compare(self, node: ast.Compare) -> Any:
        if len(node.ops) != 1:
            return UNKNOWN
        left, right = self.value(node.left), self.value(node.comparators[0])
        return compare(node.ops[0], left, right)

    def _item(self, node: ast.Subscript) -> Any:
        holder = self.value(node.value)
        if isinstance(node.slice, ast.Slice):
            bounds = [self.value(bound) if bound else None for bound in (node.slice.lower, node.slice.upper)]
            return UNKNOWN if node.slice.step else part_of(holder, *bounds)
        return item_of(holder, self.value(node.slice))

    def _comprehension(self, node: ast.ListComp) -> Any:
        loop = node.generators[0]
        items = self.value(loop.iter)
        if len(node.generators) != 1 or not isinstance(items, list | tuple | dict):
            return UNKNOWN
        inner = _Frame(self.reader, dict(self.names), self.under, self.file)
        found = []
        for item in items:
            inner._assign(loop.target, item)
            tests = [inner.value(test) for test in loop.ifs]
            if UNKNOWN in tests:
                return UNKNOWN
            if all(tests):
                found.append(inner.value(node.elt))
        return found

    def _attribute(self, node: ast.Attribute) -> Any:
        holder = self.value(node.value)
        if isinstance(holder, Foreign) and holder.name == "native" and node.attr != "bazel_version":
            return Foreign(node.attr, "native")
        return UNKNOWN

    # --- calls

    def _call(self, node: ast.Call) -> Any:
        if isinstance(node.func, ast.Attribute):
            holder = self.value(node.func.value)
            if isinstance(holder, str | list | dict):
                given = [self.value(item) for item in node.args]
                named = dict(self._named(node))
                return method(holder, node.func.attr, given, named)
        called = self.value(node.func)
        given = [self.value(item) for item in node.args if not isinstance(item, ast.Starred)]
        named = dict(self._named(node))
        if not isinstance(called, Function | Foreign):
            return UNKNOWN
        name = called.node.name if isinstance(called, Function) else called.name
        if self.reader.wanted(name, named):
            origin = called.origin if isinstance(called, Foreign) else ""
            self.reader.note(Call(name, origin, named, self.where(node)))
            return None
        if isinstance(called, Function):
            return self._enter(called, given, named, node)
        if called.origin not in ("", "native"):
            self.reader.others.append(Call(name, called.origin, named, self.where(node)))
        return self._builtin(called, given, named)

    def _named(self, node: ast.Call) -> Iterator[tuple[str, Any]]:
        for word in node.keywords:
            value = self.value(word.value)
            if word.arg is not None:
                yield word.arg, value
            elif isinstance(value, dict):
                yield from ((key, item) for key, item in value.items() if isinstance(key, str))

    def _enter(self, function: Function, given: list[Any], named: dict[str, Any], node: ast.Call) -> Any:
        wants = function.node.args
        parameters = [item.arg for item in (*wants.posonlyargs, *wants.args)]
        names: dict[str, Any] = dict.fromkeys([*parameters, *(item.arg for item in wants.kwonlyargs)], UNKNOWN)
        top = _Frame(self.reader, function.names, function.names, function.file)
        if wants.defaults:
            defaults = zip(parameters[-len(wants.defaults) :], wants.defaults, strict=True)
            names |= {name: top.value(default) for name, default in defaults}
        names |= {
            item.arg: top.value(default)
            for item, default in zip(wants.kwonlyargs, wants.kw_defaults, strict=True)
            if default is not None
        }
        names |= dict(zip(parameters, given, strict=False))
        if wants.vararg:
            names[wants.vararg.arg] = given[len(parameters) :]
        if wants.kwarg:
            names[wants.kwarg.arg] = {key: value for key, value in named.items() if key not in names}
        names |= {key: value for key, value in named.items() if key in names}
        self.reader.enter(self.where(node))
        try:
            _Frame(self.reader, names, function.names, function.file).run(function.node.body)
        except Return as returned:
            return returned.value
        finally:
            self.reader.leave()
        return UNKNOWN if returns(function.node) else None

    def _builtin(self, called: Foreign, given: list[Any], named: dict[str, Any]) -> Any:
        if called.origin == "native" and called.name == "existing_rules":
            return self.reader.declared()
        if called.origin == "native" and called.name == "existing_rule" and given and isinstance(given[0], str):
            return self.reader.declared().get(given[0])
        if called.origin:
            return UNKNOWN
        if called.name == "load":
            self._load(given, named)
            return None
        if called.name == "workspace":
            self.reader.name_workspace(str(named.get("name", "")))
            return None
        return builtin(called.name, given, named)

    def _load(self, given: list[Any], named: dict[str, Any]) -> None:
        if not given or not all(isinstance(item, str) for item in given):
            return
        path, origin = self.reader.load(given[0], self.file)
        found = self.reader.read_file(path) if path is not None else {}
        for local, name in [*((name, name) for name in given[1:]), *named.items()]:
            if not isinstance(name, str):
                continue
            value = found.get(name, Foreign(name, origin or "a file that is not there"))
            # A rule of the tree is known by the name under which it is loaded.
            self.names[local] = Foreign(name, "") if isinstance(value, Foreign) and value.name == "a rule" else value
