"""The core stays small enough to be read in one sitting, and knows no technique."""

import ast
import io
import tokenize
from pathlib import Path

import etude.core
from etude.core.task import Binary, Multiclass, Multilabel
from etude.techniques import catalogue

FOLDER = Path(etude.core.__file__).parent
FILES = sorted(FOLDER.glob("*.py"))
NOT_CODE = {
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT,
    tokenize.ENCODING, tokenize.ENDMARKER,
}  # fmt: skip


def docstring_lines(tree: ast.AST) -> set[int]:
    """The lines of every string that stands alone as a statement."""
    return {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }


def code_lines(source: str) -> int:
    """Lines that hold code: no blank lines, no comments, no docstrings."""
    used: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in NOT_CODE:
            used |= set(range(token.start[0], token.end[0] + 1))
    return len(used - docstring_lines(ast.parse(source)))


def lines(name: str) -> int:
    return len((FOLDER / name).read_text().splitlines())


def test_the_counter_counts() -> None:
    parts = [
        '"""Doc.\n\nMore.\n"""\n', "# comment", "x = (", "    1,  # why", ")", "",
        "def f():", '    """Doc."""', '    return """a\nb"""', "",
    ]  # fmt: skip
    source = "\n".join(parts)
    assert code_lines(source) == 6


def test_the_step_fits_on_a_page() -> None:
    assert 100 < lines("step.py") <= 200


def test_the_engine_stays_short() -> None:
    assert 150 < lines("engine.py") <= 300


def test_the_core_stays_small() -> None:
    assert len(FILES) >= 15
    assert 500 < sum(code_lines(path.read_text()) for path in FILES) <= 1500


def test_the_core_knows_no_technique() -> None:
    """No module of theirs is imported, and no name of theirs is a value of the core's."""
    names = set(catalogue())
    assert len(names) >= 112
    # A technique that is called as the phase it fills, and the losses that tasks have by default.
    allowed = {"warmup", *(task.default_loss for task in (Binary, Multiclass, Multilabel))}
    strings, imports = set(), set()
    for path in FILES:
        tree = ast.parse(path.read_text())
        docs = docstring_lines(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.lineno not in docs:
                strings.add(node.value)
            elif isinstance(node, ast.ImportFrom):
                imports.add(node.module or "")
            elif isinstance(node, ast.Import):
                imports |= {alias.name for alias in node.names}
    assert "soften" in strings
    assert "etude.core.batch" in imports
    named = (strings & names) - allowed
    assert not named, f"core names {named}"
    lower = ("etude.core", "etude.config", "etude.errors")
    assert not [name for name in imports if name.startswith("etude") and not name.startswith(lower)]
