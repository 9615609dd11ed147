"""No two modules need each other, but for what is planned."""

from __future__ import annotations

import grimp

PLANNED = {("openkeypoints.results", "openkeypoints.formats")}
"""Importer and imported of the upward imports that stand inside functions."""


def circles(graph: grimp.ImportGraph) -> list[list[str]]:
    """Return the groups of modules that reach each other, without the planned imports."""
    below = {
        module: {
            other
            for other in graph.find_modules_directly_imported_by(module)
            if (module, other) not in PLANNED
        }
        for module in graph.modules
    }
    reached = {module: _reached(module, below) for module in below}
    groups = {
        tuple(sorted(other for other in reached[module] if module in reached[other]))
        for module in below
        if module in reached[module]
    }
    return sorted(map(list, groups))


def _reached(module: str, below: dict[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    waiting = list(below[module])
    while waiting:
        if (other := waiting.pop()) not in seen:
            seen.add(other)
            waiting += below[other]
    return seen


def test_no_modules_import_each_other_in_a_circle():
    assert circles(grimp.build_graph("openkeypoints", cache_dir=None)) == []


def test_a_planted_circle_is_noticed():
    graph = grimp.ImportGraph()
    for importer, imported in (("a", "b"), ("b", "c"), ("c", "a"), ("c", "d"), ("d", "e")):
        graph.add_import(importer=importer, imported=imported)
    assert circles(graph) == [["a", "b", "c"]]
