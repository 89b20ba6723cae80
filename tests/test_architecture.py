"""Imports run one way, and what must not be in the house is not."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OURS = {"dags", "pipelines", "models", "tests", "benchmarks"}
MAY_IMPORT = {"dags": {"pipelines"}, "pipelines": {"pipelines", "models"}, "models": {"models"}}
HEAVY = {"torch", "pyspark", "pandas", "numpy", "great_expectations", "implicit", "duckdb", "scipy", "sklearn"}
UNSAFE = {"pickle", "cPickle", "joblib", "dill", "shelve", "cloudpickle"}


def imports(path: Path) -> Iterator[tuple[int, str, bool]]:
    """(line, module, whether it stands at the top of the file) of each import statement."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from ((node.lineno, name, node in tree.body) for name in names)


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("layer", MAY_IMPORT)
def test_imports_run_one_way(layer: str):
    """dags → pipelines → models, and never back."""
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in sources(layer)
        for line, name, _ in imports(path)
        if name.split(".")[0] in OURS - MAY_IMPORT[layer]
    ]
    assert wrong == []
    assert sources(layer)


def test_airflow_stays_in_dags():
    """The application runs without an orchestrator."""
    wrong = [
        f"{path.relative_to(ROOT)}:{line}"
        for layer in ("pipelines", "models")
        for path in sources(layer)
        for line, name, _ in imports(path)
        if name.split(".")[0] == "airflow"
    ]
    assert wrong == []


def test_dag_files_import_nothing_heavy():
    """The scheduler reads each DAG file every few seconds."""
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in sources("dags")
        for line, name, is_top in imports(path)
        if is_top and name.split(".")[0] in HEAVY
    ]
    assert wrong == []


def test_reasons_are_told_without_the_models():
    """Who reads a release or the docs waits for no training library."""
    assert list(imports(ROOT / "pipelines" / "reasons.py")) == []


def unsafe_calls(path: Path) -> Iterator[tuple[int, str]]:
    """(line, call) of each call that may unpickle: of numpy and pandas by request, of torch unless told not to."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        given = {word.arg: getattr(word.value, "value", None) for word in node.keywords}
        called = ast.unparse(node.func)
        if (
            given.get("allow_pickle", False) is not False
            or called.endswith((".read_pickle", ".to_pickle"))
            or (called == "torch.load" and given.get("weights_only") is not True)
        ):
            yield node.lineno, called


def test_no_pickles():
    """Artefacts are arrays and JSON: nothing that runs code when it is read, in the project or in its tests."""
    places = [path for folder in OURS | {"bin"} for path in sources(folder)]
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in places
        for line, name, _ in imports(path)
        if name.split(".")[0] in UNSAFE
    ]
    wrong += [f"{path.relative_to(ROOT)}:{line} calls {call}" for path in places for line, call in unsafe_calls(path)]
    assert wrong == []


@pytest.mark.parametrize(
    ("code", "is_safe"),
    [
        ("np.load(path)", True),
        ("np.load(path, allow_pickle=False)", True),
        ("np.load(path, allow_pickle=True)", False),
        ("np.load(path, allow_pickle=chosen)", False),
        ("pd.read_pickle(path)", False),
        ("frame.to_pickle(path)", False),
        ("torch.load(path, weights_only=True)", True),
        ("torch.load(path, weights_only=False)", False),
        ("torch.load(path)", False),
    ],
)
def test_what_may_unpickle_is_seen(code: str, is_safe: bool, tmp_path: Path):
    """The ban knows the calls that read pickles without importing pickle."""
    (tmp_path / "code.py").write_text(code)
    assert (not list(unsafe_calls(tmp_path / "code.py"))) == is_safe


def test_files_are_named_for_their_subject():
    """utils, helpers and common name nothing."""
    vague = {"utils.py", "util.py", "helpers.py", "helper.py", "common.py", "misc.py"}
    assert [p.name for layer in MAY_IMPORT for p in sources(layer) if p.name in vague] == []
    assert not list((ROOT / "tests").rglob("__init__.py"))
    assert not list((ROOT / "dbt").rglob("__init__.py"))


def test_every_module_opens_with_what_it_is_for():
    """The first statement is a docstring of at least a sentence."""
    docstrings = {p: ast.get_docstring(ast.parse(p.read_text())) for layer in MAY_IMPORT for p in sources(layer)}
    assert [str(path.relative_to(ROOT)) for path, text in docstrings.items() if not text] == []
