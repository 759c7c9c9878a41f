"""Nothing that is read is ever executed: a scan of the source, and of what loads a checkpoint for us."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import transformers.trainer

import scope_rlvr

SOURCE = Path(scope_rlvr.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
FORBIDDEN_CALLS = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "os.system",
    "os.popen",
    "torch.load",
    "numpy.load",
    "np.load",
    "yaml.load",
    "yaml.unsafe_load",
    "joblib.load",
}
FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def name_of(node: ast.expr) -> str:
    """``a.b.c`` of a dotted name; empty for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (base := name_of(node.value)):
        return f"{base}.{node.attr}"
    return ""


def calls_in(tree: ast.AST) -> Iterator[tuple[int, str, dict[str, ast.expr]]]:
    """Line, name and keyword arguments of every call."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield node.lineno, name_of(node.func), {k.arg: k.value for k in node.keywords if k.arg}


def findings(tree: ast.AST) -> Iterator[str]:
    for line, name, keywords in calls_in(tree):
        if name in FORBIDDEN_CALLS:
            yield f"line {line}: {name}"
        if name.startswith("subprocess.") and _is_not(keywords.get("shell"), False):
            yield f"line {line}: {name} with a shell"
        if _is_not(keywords.get("trust_remote_code"), False):
            yield f"line {line}: trust_remote_code"
        if _is_not(keywords.get("weights_only"), True):
            yield f"line {line}: weights_only"
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from (f"line {node.lineno}: {name}" for name in names if name.split(".")[0] in FORBIDDEN_MODULES)


def _is_not(value: ast.expr | None, wanted: bool) -> bool:
    """Whether a keyword was given as anything else than this constant."""
    return value is not None and not (isinstance(value, ast.Constant) and value.value is wanted)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_the_source_executes_nothing_that_it_reads(file: Path) -> None:
    assert list(findings(ast.parse(file.read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize(
    "code",
    [
        "eval('1')",
        "import pickle",
        "from pickle import loads",
        "torch.load(path)",
        "yaml.load(text)",
        "os.system('ls')",
        "subprocess.run('ls', shell=True)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "AutoModel.from_pretrained(name, trust_remote_code=flag)",
    ],
)
def test_the_scan_finds_what_it_looks_for(code: str) -> None:
    assert list(findings(ast.parse(code)))


def test_the_scan_lets_through_what_is_safe() -> None:
    code = (
        "model.eval(); json.load(file); subprocess.run(['ls']); AutoModel.from_pretrained(n, trust_remote_code=False)"
    )
    assert list(findings(ast.parse(code))) == []


def test_models_are_loaded_without_code_and_from_safetensors_only() -> None:
    """Every ``from_pretrained`` of ours says so itself, whatever the library's default."""
    loads = [
        (str(file.relative_to(SOURCE)), line, keywords)
        for file in FILES
        for line, name, keywords in calls_in(ast.parse(file.read_text(encoding="utf-8")))
        if name.startswith("Auto") and name.endswith(".from_pretrained") and file.parent.name != "embedded"
    ]
    assert loads
    for file, line, keywords in loads:
        assert "trust_remote_code" in keywords, f"{file}:{line}"
    models = [keywords for _, _, keywords in loads if "output_loading_info" in keywords]
    assert len(models) == 5
    # A GGUF file is no pickle either.
    assert all({"use_safetensors", "gguf_file"} & set(keywords) for keywords in models)


def test_the_trainer_loads_its_own_files_as_plain_tensors_and_never_its_arguments() -> None:
    """What docs/formats.md says of the Hugging Face Trainer."""
    source = Path(transformers.trainer.__file__).read_text(encoding="utf-8")
    calls = list(calls_in(ast.parse(source)))
    loads = [keywords for _, name, keywords in calls if name == "torch.load"]
    assert loads
    for keywords in loads:
        assert not _is_not(keywords["weights_only"], True)
    uses = [line for line in source.splitlines() if "TRAINING_ARGS_NAME" in line and "TRAINING_ARGS_NAME =" not in line]
    assert uses
    assert all("torch.save(" in line for line in uses)


def test_every_file_of_a_run_has_the_rights_that_the_umask_gives(plain_run: Path) -> None:
    """Nobody but the user decides who may read what a run writes."""
    umask = os.umask(0o077)
    os.umask(umask)
    modes = {
        str(file.relative_to(plain_run)): file.stat().st_mode & 0o777 for file in plain_run.rglob("*") if file.is_file()
    }
    assert {name: oct(mode) for name, mode in modes.items() if mode != 0o666 & ~umask} == {}
