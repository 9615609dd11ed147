"""What `import openkeypoints` costs, which names it has, and who reads the environment."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import openkeypoints
from tests.arch.source import PACKAGE, sources

MAX_MODULES = 300
MAX_ENVIRONMENT_NAMES = 20
HEAVY = {
    "torch", "cv2", "PIL", "openvino", "onnx", "onnxruntime", "supervision", "httpx", "click",
    "rich", "yaml", "safetensors", "scipy", "matplotlib", "starlette", "fastapi", "ray", "av",
}  # fmt: skip
COUNT_MODULES = """
import json, sys
before = set(sys.modules)
import openkeypoints
import openkeypoints.results, openkeypoints.errors
print(json.dumps(sorted(set(sys.modules) - before)), file=sys.stderr)
"""


def run_import(folder: Path) -> subprocess.CompletedProcess[str]:
    env = {
        "HOME": str(folder),
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(PACKAGE.parent),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return subprocess.run(
        [sys.executable, "-c", COUNT_MODULES],
        cwd=folder, env=env, capture_output=True, text=True, check=True, timeout=50,
    )  # fmt: skip


def test_import_adds_few_modules(tmp_path):
    modules = json.loads(run_import(tmp_path).stderr)
    assert len(modules) <= MAX_MODULES


def test_import_loads_nothing_heavy(tmp_path):
    modules = json.loads(run_import(tmp_path).stderr)
    assert not HEAVY & {name.partition(".")[0] for name in modules}


def test_import_prints_nothing_and_writes_nothing(tmp_path):
    assert run_import(tmp_path).stdout == ""
    assert list(tmp_path.rglob("*")) == []


def test_every_public_name_exists():
    missing = [name for name in openkeypoints.__all__ if not hasattr(openkeypoints, name)]
    assert not missing


def test_type_checkers_see_the_public_names_and_no_others():
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    typed = {alias.name for node in block.body for alias in node.names}
    assert typed | {"__version__"} == set(openkeypoints.__all__)


def test_an_unknown_public_name_is_an_attribute_error():
    assert not hasattr(openkeypoints, "predict_everything")


def test_every_all_names_what_its_module_has():
    wrong = {}
    for source in sources():
        assigned = [
            ast.literal_eval(node.value)
            for node in source.tree.body
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        ]
        if assigned and source.path != PACKAGE / "__init__.py":
            missing = set(assigned[0]) - top_level_names(source.tree)
            if missing:
                wrong[source.name] = missing
    assert not wrong


def test_only_settings_reads_the_environment():
    readers = [
        source.name
        for source in sources()
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Attribute)
        and node.attr in {"environ", "getenv"}
        and source.path.name != "settings.py"
    ]
    assert not readers


def test_the_environment_names_are_few():
    text = (PACKAGE / "settings.py").read_text(encoding="utf-8")
    names = {
        node.value
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isupper()
    }
    assert 0 < len(names) <= MAX_ENVIRONMENT_NAMES


def top_level_names(tree: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {ast.unparse(target) for target in node.targets}
        elif isinstance(node, ast.AnnAssign):
            names.add(ast.unparse(node.target))
    return names
