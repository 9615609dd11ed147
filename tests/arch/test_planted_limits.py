"""Plants a violation of each limit in a file that is made up: the rule must name it."""

from __future__ import annotations

import ast

import pytest

from tests.arch import test_limits as limits
from tests.arch.source import PACKAGE, Source

WORD = '"""Does a thing."""\n'
PLANTED = {
    limits.long_file: WORD + "a = 1\n" * 501,
    limits.long_functions: WORD + "def f():\n" + "    a = 1\n" * 60,
    limits.many_parameters: WORD + "def f(a, b, c, d, e, g, h): ...\n",
    limits.any_keyword: WORD + "class A:\n    def f(self, **rest): ...\n",
    limits.large_classes: WORD
    + "class A:\n"
    + "".join(f"    def f{i}(self): ...\n" for i in range(11)),
    limits.empty_name: WORD,
    limits.unplanned_imports: WORD + "def f():\n    import json\n",
    limits.hidden_imports: WORD + "if TYPE_CHECKING:\n    import openkeypoints.models\n",
    limits.unsaid_job: "a = 1\n",
    limits.unspecified_ruff_exemptions: WORD + "def f(a): ...  # noqa: PLR0913\n",
}
"""Rule -> a file that breaks it, once."""
ANNOTATIONS = {"source": "Source", "return": "Iterator[str]"}
"""By which a rule is known."""
CLEAN = WORD + "def f(a, b, *, c, d, e, g):\n" + "    a = 1\n" * 59


def file(name: str, text: str) -> Source:
    return Source(PACKAGE / name, text, ast.parse(text))


def said(rule: limits.Rule, *files: Source) -> list[str]:
    with pytest.raises(pytest.fail.Exception) as failure:
        limits.check(rule, files)
    return str(failure.value).splitlines()


def test_every_rule_has_a_violation_here():
    rules = {f for f in vars(limits).values() if getattr(f, "__annotations__", {}) == ANNOTATIONS}
    assert rules == set(PLANTED)


@pytest.mark.parametrize("rule", PLANTED, ids=lambda rule: rule.__name__)
def test_a_rule_lists_every_file_that_breaks_it(rule):
    names = ["utils.py", "drawing/misc/more.py"]
    lines = said(rule, *(file(name, PLANTED[rule]) for name in names))
    assert [line.partition(": ")[0] for line in lines] == [
        f"src/openkeypoints/{name}" for name in names
    ]


@pytest.mark.parametrize("rule", PLANTED, ids=lambda rule: rule.__name__)
def test_a_rule_finds_nothing_at_the_limits(rule):
    limits.check(rule, [file("novelty.py", CLEAN)])


def test_an_exemption_with_a_reason_is_heeded_by_its_line_alone():
    text = PLANTED[limits.many_parameters]
    exempt = text.replace("...", "...  # arch: signature of somebody else")
    limits.check(limits.many_parameters, [file("novelty.py", exempt)])
    assert said(limits.many_parameters, file("novelty.py", f"{exempt}\n\n{text[len(WORD) :]}"))
