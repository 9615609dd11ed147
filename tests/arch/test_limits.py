"""The limits of files, functions, classes and signatures."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator

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
    "sources.py": "the fetch, when a source is an address",
    "images.py": "the fetch, when a source is an address",
    "models/catalogue.py": "a family, when one of its models is built",
    "models/pico/__init__.py": "its network, when the torch runtime is to run it",
    "runtimes/__init__.py": "a runtime, when a session is opened",
    "formats/supervision.py": "an extra",
    "train/evaluate.py": "an extra",
    "train/logs.py": "an extra",
}
LAZY_FOLDERS = {"cli": "a command loads what it needs, so that `okp --help` stays quick"}

SKIPS = re.compile(r"pytest\.(?:skip|importorskip|mark\.skip(?:if)?)\b")
Rule = Callable[[Source], Iterator[str]]
"""A file -> what breaks the rule in it."""


def exempt(source: Source, line: int) -> bool:
    """Whether the line, or the one above it, has a comment ``# arch: reason``."""
    return any(
        number in (line, line - 1) and text.startswith("# arch: ")
        for number, text in source.comments
    )


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    arguments = function.args
    names = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    return names[1:] if names[:1] in (["self"], ["cls"]) else names


# --- the rules: what they are broken by, in one file -----------------------------------------


def long_file(source: Source) -> Iterator[str]:
    """Yield the number of code lines of a file that is too long."""
    count = len(code_lines(source.text, source.tree))
    if count > MAX_FILE_LINES:
        yield f"{count} code lines, {MAX_FILE_LINES} are allowed"


def long_functions(source: Source) -> Iterator[str]:
    """Yield the functions that are too long."""
    lines = code_lines(source.text, source.tree)
    for name, node in source.functions():
        count = len(lines & set(range(node.lineno, (node.end_lineno or 0) + 1)))
        if count > MAX_FUNCTION_LINES and not exempt(source, node.lineno):
            yield f"{name} has {count} code lines, {MAX_FUNCTION_LINES} are allowed"


def many_parameters(source: Source) -> Iterator[str]:
    """Yield the functions that take too many parameters."""
    for name, node in source.functions():
        found = parameters(node)
        planned = name in SPECIFIED or exempt(source, node.lineno)
        if len(found) > MAX_PARAMETERS and not planned:
            yield f"{name} takes {', '.join(found)}: {MAX_PARAMETERS} parameters are allowed"


def any_keyword(source: Source) -> Iterator[str]:
    """Yield the public functions that take any keyword."""
    for name, node in source.functions():
        if node.args.kwarg is not None and not any(p.startswith("_") for p in name.split(".")):
            yield f"{name} takes **{node.args.kwarg.arg}"


def large_classes(source: Source) -> Iterator[str]:
    """Yield the classes that have too many public methods."""
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.ClassDef):
            continue
        public = [
            f.name
            for f in node.body
            if isinstance(f, ast.FunctionDef)
            and not f.name.startswith("_")
            and not any(ast.unparse(d).endswith("property") for d in f.decorator_list)
        ]
        if len(public) > MAX_PUBLIC_METHODS:
            yield f"{node.name} has {', '.join(public)}: {MAX_PUBLIC_METHODS} methods are allowed"


def empty_name(source: Source) -> Iterator[str]:
    """Yield the part of a path that says nothing."""
    yield from sorted(BANNED_NAMES & set(source.path.relative_to(PACKAGE).with_suffix("").parts))


def unplanned_imports(source: Source) -> Iterator[str]:
    """Yield the imports inside functions of a file that is not planned to have any."""
    relative = source.path.relative_to(PACKAGE)
    if relative.as_posix() in LAZY or relative.parts[0] in LAZY_FOLDERS:
        return
    for name, node in source.functions():
        for statement in ast.walk(node):
            if isinstance(statement, ast.Import | ast.ImportFrom):
                yield f"{name}: {ast.unparse(statement)}"


def hidden_imports(source: Source) -> Iterator[str]:
    """Yield our own imports that only type checkers see."""
    if source.path == PACKAGE / "__init__.py":
        return
    for node in ast.walk(source.tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for statement in node.body:
                if "openkeypoints" in ast.unparse(statement):
                    yield ast.unparse(statement)


def unsaid_job(source: Source) -> Iterator[str]:
    """Yield the first line of a module where it says no job."""
    first = (ast.get_docstring(source.tree) or "").partition("\n")[0]
    if not first.endswith("."):
        yield f"its first line is {first!r}: say its one job, in a sentence"


def unspecified_ruff_exemptions(source: Source) -> Iterator[str]:
    """Yield the functions that ruff lets pass though nothing here does."""
    lines = source.text.splitlines()
    for name, node in source.functions():
        planned = name in SPECIFIED or exempt(source, node.lineno)
        if "noqa: PLR0913" in lines[node.lineno - 1] and not planned:
            yield f"{name} is exempt from PLR0913 and has no reason"


def check(rule: Rule, files: Iterable[Source] | None = None) -> None:
    """Fail with every violation of a rule in all files."""
    files = sources() if files is None else files
    found = [f"{source.name}: {violation}" for source in files for violation in rule(source)]
    if found:
        pytest.fail("\n".join(found), pytrace=False)


# --- the tests, one a rule -------------------------------------------------------------------


def test_no_file_is_longer_than_its_limit():
    check(long_file)


def test_no_function_is_longer_than_its_limit():
    check(long_functions)


def test_no_function_takes_more_parameters_than_its_limit():
    check(many_parameters)


def test_no_public_function_takes_any_keyword():
    check(any_keyword)


def test_no_class_has_more_public_methods_than_its_limit():
    check(large_classes)


def test_no_file_and_no_folder_has_a_name_that_says_nothing():
    check(empty_name)


def test_imports_inside_functions_stand_only_where_they_are_planned():
    check(unplanned_imports)


def test_no_import_of_ours_hides_behind_type_checking():
    check(hidden_imports)


def test_every_module_says_its_one_job_in_its_first_line():
    check(unsaid_job)


def test_exemptions_are_few_and_have_reasons():
    found = [
        f"{source.name}:{line} {text}"
        for source in sources()
        for line, text in source.comments
        if re.match(r"# arch:\s*\S", text)
    ]
    assert len(found) <= MAX_EXEMPTIONS, "\n".join(found)


def test_exemptions_from_the_parameter_limit_of_ruff_are_the_specified_ones():
    check(unspecified_ruff_exemptions)


def test_no_test_skips():
    skipping = [
        f"{path.relative_to(ROOT)}: {call}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        if path.name != "test_limits.py"
        for call in SKIPS.findall(path.read_text(encoding="utf-8"))
    ]
    assert not skipping, "\n".join(skipping)
