"""The limits of files, functions, classes and signatures."""

from __future__ import annotations

import ast
import re

import pytest

from tests.arch.source import PACKAGE, ROOT, Source, code_lines, sources

MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 60
MAX_PARAMETERS = 6
MAX_PUBLIC_METHODS = 10
MAX_EXEMPTIONS = 10
BANNED_NAMES = {"utils", "util", "helpers", "helper", "common", "core", "misc"}

# Signatures that the specification writes down in full.
SPECIFIED = {"get_model", "Model.infer", "Model.__call__", "Prediction.dict", "Prediction.tojson"}

# The files that may import inside a function, and why: everything else says at its top what it
# needs.
LAZY = {
    "results.py": "the formats, when somebody asks a prediction for text",
    "images.py": "the fetch, when a source is an address",
    "models/catalogue.py": "a family, when one of its models is built",
    "models/pico/__init__.py": "its network, when the torch runtime is to run it",
    "runtimes/__init__.py": "a runtime, when a session is opened",
    "formats/supervision.py": "an extra",
    "train/evaluate.py": "an extra",
    "train/logs.py": "an extra",
}
LAZY_FOLDERS = {"cli": "a command loads what it needs, so that `okp --help` stays quick"}


@pytest.fixture(params=sources(), ids=lambda source: source.name)
def source(request: pytest.FixtureRequest) -> Source:
    return request.param


def exempt(source: Source, line: int) -> bool:
    """Whether the line, or the one above it, has a comment ``# arch: reason``."""
    return any(
        number in (line, line - 1) and text.startswith("# arch: ")
        for number, text in source.comments()
    )


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    arguments = function.args
    names = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    return names[1:] if names[:1] in (["self"], ["cls"]) else names


def test_no_file_is_longer_than_its_limit(source):
    assert len(code_lines(source.text, source.tree)) <= MAX_FILE_LINES


def test_no_function_is_longer_than_its_limit(source):
    lines = code_lines(source.text, source.tree)
    long = {
        name: count
        for name, node in source.functions()
        if (count := len(lines & set(range(node.lineno, (node.end_lineno or 0) + 1))))
        > MAX_FUNCTION_LINES
        and not exempt(source, node.lineno)
    }
    assert not long


def test_no_function_takes_more_parameters_than_its_limit(source):
    many = {
        name: parameters(node)
        for name, node in source.functions()
        if len(parameters(node)) > MAX_PARAMETERS
        and name not in SPECIFIED
        and not exempt(source, node.lineno)
    }
    assert not many


def test_no_public_function_takes_any_keyword(source):
    loose = [
        name
        for name, node in source.functions()
        if node.args.kwarg is not None and not any(p.startswith("_") for p in name.split("."))
    ]
    assert not loose


def test_no_class_has_more_public_methods_than_its_limit(source):
    large = {}
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ClassDef):
            public = [
                f.name
                for f in node.body
                if isinstance(f, ast.FunctionDef)
                and not f.name.startswith("_")
                and not any(ast.unparse(d).endswith("property") for d in f.decorator_list)
            ]
            if len(public) > MAX_PUBLIC_METHODS:
                large[node.name] = public
    assert not large


def test_no_file_has_a_name_that_says_nothing():
    names = [p for p in PACKAGE.rglob("*") if p.stem in BANNED_NAMES]
    assert not names


def test_imports_inside_functions_stand_only_where_they_are_planned(source):
    relative = source.path.relative_to(PACKAGE)
    if relative.as_posix() in LAZY or relative.parts[0] in LAZY_FOLDERS:
        return
    lazy = [
        (name, ast.unparse(statement))
        for name, node in source.functions()
        for statement in ast.walk(node)
        if isinstance(statement, ast.Import | ast.ImportFrom)
    ]
    assert not lazy


def test_no_import_of_ours_hides_behind_type_checking(source):
    if source.path == PACKAGE / "__init__.py":
        return
    hidden = [
        ast.unparse(statement)
        for node in ast.walk(source.tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for statement in node.body
        if "openkeypoints" in ast.unparse(statement)
    ]
    assert not hidden


def test_every_module_says_its_one_job_in_its_first_line(source):
    docstring = ast.get_docstring(source.tree)
    assert docstring
    assert docstring.splitlines()[0].endswith(".")


def test_exemptions_are_few_and_have_reasons():
    found = [
        f"{source.name}:{line} {text}"
        for source in sources()
        for line, text in source.comments()
        if re.match(r"# arch:\s*\S", text)
    ]
    assert len(found) <= MAX_EXEMPTIONS, "\n".join(found)


def test_exemptions_from_the_parameter_limit_of_ruff_are_the_specified_ones():
    noted = [
        (source.name, name)
        for source in sources()
        for name, node in source.functions()
        if "noqa: PLR0913" in source.text.splitlines()[node.lineno - 1]
        and name not in SPECIFIED
        and not exempt(source, node.lineno)
    ]
    assert not noted


def test_no_test_skips():
    skipping = [
        f"{source.name}: {call}"
        for source in sources(ROOT / "tests")
        if source.path.name != "test_limits.py"
        for call in re.findall(r"pytest\.(?:skip|importorskip|mark\.skip(?:if)?)\b", source.text)
    ]
    assert not skipping
