"""The wall, tried by taking stones out: without one `require` or one `for_team` a check must turn red."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction

from accounts.actor import Actor
from core.errors import PermissionDenied
from tests.core import test_matrix as matrix
from tests.scenario import Scenario
from tests.world import World, make_world

pytestmark = pytest.mark.django_db

ROOT = Path(__file__).resolve().parents[2]
PLACES = ("accounts", "billing", "projects", "training", "platform/notifications")

# Functions that take an actor and rightly ask for no permission, and why.
ASKS_NOTHING = {
    "accounts.services.audit.audit": "writes down what was allowed already",
    "accounts.services.memberships.remove_member": "anybody may leave; asked for when it is somebody else",
    "accounts.selectors.team_members": "read by every page of the team",
    "accounts.selectors.member_by_uid": "read by every page of the team",
    "accounts.selectors.team_api_keys": "narrows to one's own keys",
    "accounts.selectors.open_invitations": "read by every page of the team",
    "accounts.selectors.heirs_of": "read by every page of the team",
    "accounts.services.tokens.issue_tokens": "a token holds no more than the person's role",
    "projects.services.datasets.locked_dataset": "called by services that asked",
    "projects.services.projects.locked_project": "called by services that asked",
    "projects.services.projects.forget_member": "a listener; the change was allowed already",
    "notifications.services.members.tell_member_change": "a listener; the change was allowed already",
}


def functions() -> dict[str, FunctionType]:
    """Return every public function of services and selectors that takes an actor, by its full name."""
    found = {}
    for folder in PLACES:
        for path in sorted((ROOT / folder).rglob("*.py")):
            relative = path.relative_to(ROOT / "platform" if "platform" in path.parts else ROOT)
            parts = relative.with_suffix("").parts
            if "services" not in parts and parts[-1] != "selectors":
                continue
            if parts[-1] == "__init__" or "engine" in parts:
                continue
            module = import_module(".".join(parts))
            for name, value in vars(module).items():
                is_ours = isinstance(value, FunctionType) and value.__module__ == module.__name__
                if is_ours and not name.startswith("_") and "actor" in inspect.signature(value).parameters:
                    found[f"{module.__name__}.{name}"] = value
    return found


def asks_first(function: FunctionType, powerless: Actor) -> bool:
    """Tell whether a function refuses an actor without any permission before it looks at anything else."""
    arguments: dict[str, Any] = {
        name: powerless if name == "actor" else None
        for name, parameter in inspect.signature(function).parameters.items()
        if name == "actor" or parameter.default is inspect.Parameter.empty
    }
    try:
        result = function(**arguments)
        if inspect.isgenerator(result):
            next(result)
    except PermissionDenied:
        return True
    except Exception:
        return False
    return False


@pytest.fixture
def powerless(scenario: Scenario) -> Actor:
    return Actor(team=scenario.team, user=scenario.bob.user, permissions=frozenset(), role=scenario.bob.role)


def calls_require(function: FunctionType) -> bool:
    return "require" in function.__code__.co_names


def test_every_function_that_takes_an_actor_asks_for_a_permission_first(powerless: Actor) -> None:
    silent = [
        name
        for name, function in functions().items()
        if name not in ASKS_NOTHING and not asks_first(function, powerless)
    ]
    assert silent == []
    assert [name for name in ASKS_NOTHING if name not in functions()] == []


@contextmanager
def mutated(function: FunctionType, change: Callable[[ast.FunctionDef], None]) -> Iterator[None]:
    """Run with the function's body changed; callers that imported it by name are changed too."""
    module = sys.modules[function.__module__]
    tree = ast.parse(Path(str(module.__file__)).read_text())
    node = next(n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == function.__name__)
    change(node)
    future = ast.parse("from __future__ import annotations").body
    code = compile(ast.Module(body=[*future, node], type_ignores=[]), str(module.__file__), "exec")
    inner = next(
        each for each in code.co_consts if isinstance(each, CodeType) and each.co_name == function.__name__
    )
    before = function.__code__
    function.__code__ = inner
    try:
        yield
    finally:
        function.__code__ = before


def without_require(node: ast.FunctionDef) -> None:
    class Remove(ast.NodeTransformer):
        def visit_Expr(self, each: ast.Expr) -> ast.AST:
            is_it = isinstance(each.value, ast.Call) and ast.unparse(each.value.func) == "require"
            return ast.copy_location(ast.Pass(), each) if is_it else each

    ast.fix_missing_locations(Remove().visit(node))


def without_for_team(node: ast.FunctionDef) -> None:
    """Turn every `X.objects.for_team(...)` of a function into `X.unscoped.all()`."""

    class Open(ast.NodeTransformer):
        def visit_Call(self, each: ast.Call) -> ast.AST:
            self.generic_visit(each)
            if isinstance(each.func, ast.Attribute) and each.func.attr == "for_team":
                model = each.func.value
                if isinstance(model, ast.Attribute) and model.attr == "objects":
                    rows = ast.Attribute(value=model.value, attr="unscoped", ctx=ast.Load())
                    opened = ast.Call(
                        func=ast.Attribute(value=rows, attr="all", ctx=ast.Load()), args=[], keywords=[]
                    )
                    return ast.copy_location(opened, each)
            return each

    ast.fix_missing_locations(Open().visit(node))


def test_taking_out_any_require_is_noticed(powerless: Actor) -> None:
    guarded = {
        name: function
        for name, function in functions().items()
        if name not in ASKS_NOTHING and calls_require(function)
    }
    unnoticed = []
    for name, function in guarded.items():
        with mutated(function, without_require):
            if asks_first(function, powerless):
                unnoticed.append(name)
    # It is guarded twice: a function it calls first asks for the same right.
    assert unnoticed == ["projects.services.uploads.append"]


# Each leads a stranger's id to a row by one `for_team`.
FOR_TEAM = (
    "projects.selectors.project",
    "projects.selectors.dataset",
    "projects.selectors.item_with_neighbours",
    "projects.selectors.lora_model",
    "projects.selectors.lora_file",
    "projects.selectors.picture_blob",
    "projects.services.projects.locked_project",
    "projects.services.datasets.locked_dataset",
    "projects.services.items.edit_item",
    "projects.services.items.delete_item",
    "projects.services.versions.freeze_dataset",
    "projects.services.uploads.upload_of",
    "training.selectors._seen_jobs",
    "training.selectors.sample_by_uid",
    "training.selectors.checkpoint_by_uid",
    "accounts.selectors.team_api_keys",
    "accounts.services.invitations.revoke_invitation",
)


@pytest.mark.slow
@pytest.mark.parametrize("name", FOR_TEAM)
def test_taking_out_a_for_team_is_noticed(scenario: Scenario, name: str) -> None:
    world: World = make_world(scenario.alice, "mine")
    module, _dot, attribute = name.rpartition(".")
    function = getattr(import_module(module), attribute)
    checks = [
        lambda: matrix.test_ids_of_another_team_are_not_found_in_ones_own(scenario, world, "get"),
        lambda: matrix.test_ids_of_another_team_are_not_found_in_ones_own(scenario, world, "post"),
        lambda: matrix.test_a_credential_of_another_team_finds_nothing(scenario, world),
    ]
    red = 0
    with mutated(function, without_for_team):
        for check in checks:
            before = transaction.savepoint()
            try:
                check()
                connection.check_constraints()
            except (AssertionError, IntegrityError):
                # A stranger got something (AssertionError), or the database's own net caught it.
                red += 1
            finally:
                transaction.savepoint_rollback(before)
            if red:
                break
    assert red, f"{name} without for_team: nobody noticed"
