"""Imports run one way: a room imports from rooms below it only."""

import ast
from pathlib import Path

import hf_autojudge

SOURCE = Path(hf_autojudge.__file__).parent
ORDER = {  # a room may import from rooms of a smaller number, and from itself
    "cluster": 0,
    "progress": 0,
    "provenance": 0,
    "judges": 1,
    "runners": 1,
    "tasks": 1,
    "decoding": 2,
    "integration": 3,
    "labeling": 3,
    "evaluation": 4,
    "hub": 5,
    "training": 6,
    "demo": 7,
    "cli": 8,
}


def imported(path):
    """Names of the package's modules that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "hf_autojudge":
            yield node.module, [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            yield from ((alias.name, []) for alias in node.names if alias.name.split(".")[0] == "hf_autojudge")


def test_imports_run_one_way():
    wrong = []
    for path in sorted(SOURCE.rglob("*.py")):
        room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        if room == "__init__":
            continue
        for module, names in imported(path):
            parts = module.split(".")
            others = [parts[1]] if len(parts) > 1 else [name if name in ORDER else "__init__" for name in names]
            for other in others:
                if other == "__init__":
                    allowed = ORDER[room] >= ORDER["demo"]  # the public names, for what stands on all
                else:
                    allowed = other == room or ORDER[other] < ORDER[room]
                if other == "demo" and room not in ("demo", "cli"):
                    allowed = False
                if not allowed:
                    wrong.append(f"{path.relative_to(SOURCE)} imports {module}")
    assert not wrong
