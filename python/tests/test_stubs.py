"""The stubs name what the native module has, and nothing else."""

import ast
from pathlib import Path

import stitchpack
from stitchpack import _native


def named(body):
    """Names of a module's or a class's body, dunders left out but for those that numpy and pickle look for."""
    out = {}
    for node in body:
        if isinstance(node, ast.ClassDef):
            out[node.name] = named(node.body)
        elif isinstance(node, ast.FunctionDef):
            out[node.name] = None
        elif isinstance(node, ast.AnnAssign):
            out[node.target.id] = None
    return out


def test_stubs_match_the_module():
    text = (Path(stitchpack.__file__).parent / "_native.pyi").read_text()
    stubs = named(ast.parse(text).body)
    found = {n for n in dir(_native) if not n.startswith("__")}
    assert found == set(stubs)
    for name, members in stubs.items():
        if members is None:
            continue
        real = {n for n in vars(getattr(_native, name)) if not n.startswith("__")} | {"__array_interface__"}
        said = {n for n in members if not n.startswith("__")} | {"__array_interface__"}
        assert real == said, name


def test_signatures_match_the_module():
    text = (Path(stitchpack.__file__).parent / "_native.pyi").read_text()
    for node in ast.parse(text).body:
        members = node.body if isinstance(node, ast.ClassDef) else []
        for function in [node, *members]:
            if not isinstance(function, ast.FunctionDef) or function.name == "__new__" or function.decorator_list:
                continue
            owner = _native if function is node else getattr(_native, node.name)
            text_signature = getattr(owner, function.name).__text_signature__
            real = [p.strip("$ ") for p in text_signature.strip("()").split(",")]
            said = [a.arg for a in function.args.args]
            assert [p.split("=")[0] for p in real] == said, function.name


def test_the_package_says_that_it_is_typed():
    assert (Path(stitchpack.__file__).parent / "py.typed").exists()


def test_all_is_what_it_says():
    assert sorted(stitchpack.__all__) == stitchpack.__all__
    assert all(hasattr(stitchpack, name) for name in stitchpack.__all__)
    assert set(stitchpack.errors.__all__) <= set(stitchpack.__all__)
