"""How modules import each other, beside the rules of import-linter in pyproject.toml."""

from graphlib import TopologicalSorter

from grimp import build_graph  # comes with import-linter


def test_no_module_imports_itself_through_others() -> None:
    packages = ("durable_sagas", "app", "tasks", "workflows", "web", "cli")
    graph = build_graph(*packages, exclude_type_checking_imports=True, cache_dir=None)

    # prepare() raises CycleError with the modules of a circle, those that are imported inside functions included
    TopologicalSorter({name: graph.find_modules_directly_imported_by(name) for name in graph.modules}).prepare()
