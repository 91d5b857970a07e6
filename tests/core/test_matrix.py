"""The matrix: every address x every kind of visitor. A new address without a row here fails by itself.

Expectations come from the door: strangers get 404, roles without the permission 403, the others neither; the API
answers 401 without a key and 404 for what belongs to another team.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator

import pytest
from django.test import Client
from django.urls import URLPattern, get_resolver

from accounts.models import AuditEvent
from accounts.roles import KEY_SCOPES, KEY_SCOPES_MORE, ROLE_CAN, Can, Role
from accounts.services.api_keys import create_api_key
from accounts.services.tokens import issue_tokens
from projects.services.projects import change_visibility
from tests.core.test_tenancy import door_of, walk
from tests.factories import make_member
from tests.scenario import Scenario
from tests.world import World, make_world
from training.access import may_follow

pytestmark = pytest.mark.django_db

# Which row fills the uid of an address, by the words before it.
UID_OF = {
    "projects": lambda world: world.project.uid,
    "datasets": lambda world: world.dataset.uid,
    "items": lambda world: world.item.uid,
    "uploads": lambda world: world.upload.uid,
    "pictures": lambda world: world.blob.uid,
    "thumbnails": lambda world: world.blob.uid,
    "dataset_versions": lambda world: world.version.uid,
    "versions": lambda world: world.version.uid,
    "models": lambda world: world.model.uid,
    "model_versions": lambda world: world.model_version.uid,
    "lora-files": lambda world: world.file.uid,
    "trainings": lambda world: world.job.uid,
    "generations": lambda world: world.order.uid,
    "captionings": lambda world: world.captioning.uid,
    "evaluations": lambda world: world.extra["evaluation"],
    "samples": lambda world: world.sample.uid,
    "checkpoints": lambda world: world.checkpoint.uid,
    "keys": lambda world: world.key_uid,
    "api_keys": lambda world: world.spare_key_uid,
    "members": lambda world: world.member.uid,
    "webhooks": lambda world: world.extra["webhook"],
    "webhook_endpoints": lambda world: world.extra["webhook"],
    "deliveries": lambda world: world.extra["delivery"],
    "invitations": lambda world: world.invitation.uid,
    "exports": lambda world: world.export.uid,
}
PAGE_METHODS = ("get", "post")


def fill(address: str, slug: str, world: World) -> str:
    """Return the address with the rows of `world` in its places."""
    path = address.replace("<slug:slug>", slug)

    def uid(match: re.Match[str]) -> str:
        return f"{match.group(1)}/{UID_OF[match.group(1)](world)}"

    path = path.replace("^", "").replace("$", "").replace("\\Z", "")
    path = re.sub(r"([\w-]+)/(?:<uid:uid>|\(\?P<uid>[^)]*\))", uid, path)
    assert "<" not in path, f"{address}: tests/core/test_matrix.py does not know what fills it"
    return "/" + path


def team_pages() -> list[tuple[str, URLPattern]]:
    return [(a, p) for a, p in walk(get_resolver().url_patterns) if door_of(p) == "team"]


def api_routes() -> Iterator[tuple[str, str, Can | None]]:
    """Yield (method, address, permission) for each action of each API route."""
    for address, pattern in walk(get_resolver().url_patterns):
        if door_of(pattern) != "machine" or not address.startswith("api/v1/"):
            continue
        actions = getattr(pattern.callback, "actions", None)
        can = getattr(getattr(pattern.callback, "cls", None), "can", {})
        for method, action in list((actions or {"get": ""}).items()):
            yield method, address, can.get(action) if actions else None


def takes_a_person(can: Can | None) -> bool:
    """Tell whether no key can hold a permission: exporting everything and deleting the team."""
    return can is not None and can not in KEY_SCOPES + KEY_SCOPES_MORE


@pytest.fixture
def world(scenario: Scenario) -> World:
    return make_world(scenario.alice, "mine")


@pytest.mark.parametrize("method", PAGE_METHODS)
def test_a_stranger_finds_no_page_of_another_team(scenario: Scenario, world: World, method: str) -> None:
    client = Client()
    client.force_login(scenario.charlie.user)
    audited = AuditEvent.objects.for_team(scenario.team).count()
    answers = {
        fill(address, slug, world): 404
        for address, pattern in team_pages()
        for slug in (scenario.team.slug,)
        if getattr(client, method)(fill(address, slug, world)).status_code != 404
    }
    assert answers == {}
    assert AuditEvent.objects.for_team(scenario.team).count() == audited


@pytest.mark.parametrize("method", PAGE_METHODS)
def test_ids_of_another_team_are_not_found_in_ones_own(scenario: Scenario, world: World, method: str) -> None:
    client = Client()
    client.force_login(scenario.charlie.user)
    found = {}
    for address, _pattern in team_pages():
        if "<uid:uid>" in address:
            path = fill(address, scenario.charlie.team.slug, world)
            status = getattr(client, method)(path).status_code
            if status not in {404, 405}:
                found[path] = status
    assert found == {}


@pytest.mark.parametrize("method", PAGE_METHODS)
def test_without_a_login_every_team_page_leads_to_the_login(
    scenario: Scenario, world: World, method: str
) -> None:
    client = Client()
    wrong = {}
    for address, _pattern in team_pages():
        answer = getattr(client, method)(fill(address, scenario.team.slug, world))
        if answer.status_code != 302 or not answer["Location"].startswith("/account/login/"):
            wrong[address] = answer.status_code
    assert wrong == {}


@pytest.mark.parametrize("role", list(Role))
def test_each_role_may_do_what_its_row_says_and_no_more(scenario: Scenario, world: World, role: Role) -> None:
    member = make_member(scenario.team, role)
    client = Client()
    client.force_login(member.user)
    wrong = {}
    # What ends things comes last, so that the rows are there for the others; leaving comes last of all.
    ending = ("archive", "delete", "revoke", "remove", "leave")
    pages = sorted(
        team_pages(),
        key=lambda page: (max(ending.index(w) + 1 if w in page[0] else 0 for w in ending), page[0]),
    )
    for address, pattern in pages:
        path = fill(address, scenario.team.slug, world)
        for method in PAGE_METHODS:
            status = getattr(client, method)(path).status_code
            allowed = pattern.callback.can in ROLE_CAN[role]  # type: ignore[attr-defined]
            # Settings are seen by every member and changed by some, a key is rolled by its maker alone: the
            # services decide these.
            decided_inside = (method, pattern.name) in {("post", "team_settings"), ("post", "api_key_roll")}
            if allowed and status == 403 and not decided_inside:
                wrong[method, path] = f"{status}, expected not 403"
            if not allowed and status != 403:
                wrong[method, path] = f"{status}, expected 403"
            if status >= 500:
                wrong[method, path] = f"{status}"
    assert wrong == {}


# What a well-formed request to these addresses carries, so that only the id decides.
BODIES = {
    "captions:auto": {"captioner": "colours", "mode": "replace"},
    "items:batch": {"action": "exclude"},
    "datasets": {"name": "Renamed"},
    "members": {"role": "viewer"},
    "spend_limit": {"cents": 100},
}
TUS = {"Tus-Resumable": "1.0.0", "Upload-Offset": "0"}


def call(client: Client, method: str, path: str, key: str | None) -> int:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    body = next((body for words, body in BODIES.items() if words in path), {})
    if "/uploads/" in path:
        answer = client.generic(
            method.upper(), path, b"x", "application/offset+octet-stream", headers={**headers, **TUS}
        )
    elif method in {"post", "patch", "put"}:
        answer = getattr(client, method)(
            path, data=json.dumps(body), content_type="application/json", headers=headers
        )
    else:
        answer = getattr(client, method)(path, headers=headers)
    return int(answer.status_code)


def test_the_api_answers_nobody_without_a_key(scenario: Scenario, world: World) -> None:
    wrong = {}
    for method, address, _can in api_routes():
        for key in (None, "lf_live_nonsense", world.key_text[:-1] + "!"):
            status = call(Client(), method, fill(address, "", world), key)
            if status != 401:
                wrong[method, address] = status
    assert wrong == {}


def test_a_credential_of_another_team_finds_nothing(scenario: Scenario, world: World) -> None:
    theirs = make_world(scenario.charlie, "theirs")
    audited = AuditEvent.objects.for_team(scenario.team).count()
    token = issue_tokens(actor=scenario.charlie).access
    wrong = {}
    for method, address, can in api_routes():
        if "uid" in address:
            path = fill(address, "", world)
            for credential in (theirs.key_text, token):
                expected = {403} if credential != token and takes_a_person(can) else {404, 405}
                if (status := call(Client(), method, path, credential)) not in expected:
                    wrong[method, address] = status
    assert wrong == {}
    assert AuditEvent.objects.for_team(scenario.team).count() == audited


def test_a_key_that_may_only_read_changes_nothing(scenario: Scenario, world: World) -> None:
    audited = AuditEvent.objects.for_team(scenario.team).count()
    wrong = {}
    for method, address, can in api_routes():
        status = call(Client(), method, fill(address, "", world), world.read_key_text)
        if can is None or status == 405:
            continue
        readable = can.value.endswith(":read") and can is not Can.WEIGHTS_DOWNLOAD
        if readable == (status == 403) or status >= 500:
            wrong[method, address] = status
    assert wrong == {}
    assert AuditEvent.objects.for_team(scenario.team).count() == audited


def test_a_key_with_every_scope_reaches_every_route(scenario: Scenario, world: World) -> None:
    wrong = {}
    routes = sorted(api_routes(), key=lambda route: route[0] == "delete")
    for method, address, can in routes:
        status = call(Client(), method, fill(address, "", world), world.key_text)
        if (status == 403) != takes_a_person(can) or status == 401 or status >= 500:
            wrong[method, address] = status
    assert wrong == {}


@pytest.mark.parametrize("role", list(Role))
def test_a_token_may_do_what_the_persons_role_says_and_no_more(
    scenario: Scenario, world: World, role: Role
) -> None:
    token = issue_tokens(actor=make_member(scenario.team, role)).access
    wrong = {}
    for method, address, can in sorted(api_routes(), key=lambda route: route[0] == "delete"):
        status = call(Client(), method, fill(address, "", world), token)
        if can is None or status == 405:
            continue
        # Services may refuse more than the door does: a key is rolled by its maker, an owner touched by owners.
        if (can not in ROLE_CAN[role] and status != 403) or status in {401, 500}:
            wrong[method, address] = status
    assert wrong == {}


# What belongs to the team as a whole is not behind a project.
OF_THE_TEAM = ("/keys/", "/members/", "/invitations/", "/exports/")


@pytest.mark.parametrize("method", PAGE_METHODS)
def test_a_member_who_is_not_on_the_list_finds_nothing_of_a_restricted_project(
    scenario: Scenario, world: World, method: str
) -> None:
    editor = make_member(scenario.team, Role.EDITOR)
    change_visibility(actor=scenario.alice, uid=world.project.uid, is_restricted=True)
    client = Client()
    client.force_login(editor.user)
    found = {}
    for address, pattern in team_pages():
        path = fill(address, scenario.team.slug, world)
        status = getattr(client, method)(path).status_code
        hidden = "<uid:uid>" in address and not any(words in address for words in OF_THE_TEAM)
        if hidden and pattern.callback.can in ROLE_CAN[Role.EDITOR] and status not in {404, 405}:  # type: ignore[attr-defined]
            found[path] = status
        if method == "get" and status == 200:
            page = client.get(path).content.decode()
            if world.project.name in page or world.project.uid in page:
                found[path] = "names it"
    assert found == {}


def test_a_key_finds_nothing_of_a_project_that_is_hidden_from_its_maker(
    scenario: Scenario, world: World
) -> None:
    editor = make_member(scenario.team, Role.EDITOR)
    key = create_api_key(actor=editor, name="mine").text
    change_visibility(actor=scenario.alice, uid=world.project.uid, is_restricted=True)
    wrong = {}
    for method, address, can in api_routes():
        path = fill(address, "", world)
        status = call(Client(), method, path, key)
        hidden = "uid" in address and can in ROLE_CAN[Role.EDITOR]
        hidden = hidden and not any(words.strip("/") in path for words in (*OF_THE_TEAM, "api_keys"))
        if hidden and status not in {404, 405}:
            wrong[method, address] = status
        if method == "get" and status == 200:
            answer = Client().get(path, headers={"Authorization": f"Bearer {key}"}).content.decode()
            if world.project.uid in answer or world.job.uid in answer or world.dataset.uid in answer:
                wrong[method, address] = "names it"
    assert wrong == {}


def test_who_is_on_the_list_sees_the_project_and_loses_it_at_once(scenario: Scenario, world: World) -> None:
    editor = make_member(scenario.team, Role.EDITOR)
    client = Client()
    client.force_login(editor.user)
    page = f"/t/{scenario.team.slug}/trainings/{world.job.uid}/"
    for members, status in (([editor.user.uid], 200), ([], 404)):
        change_visibility(actor=scenario.alice, uid=world.project.uid, is_restricted=True, user_uids=members)
        assert client.get(page).status_code == status
        assert may_follow(editor.user, world.job.uid) is (status == 200)


def test_the_size_of_the_matrix(record_testsuite_property: Callable[[str, object], None]) -> None:
    """Print what the tests above ask: each line is routes x methods x visitors, and its product."""
    pages, routes = len(team_pages()), len(list(api_routes()))
    with_uid = sum("uid" in address for _method, address, _can in api_routes())
    pages_with_uid = sum("<uid:uid>" in address for address, _pattern in team_pages())
    roles, methods = len(Role), len(PAGE_METHODS)
    lines = {
        "pages x methods x (stranger, nobody, member off the list, each role)": pages * methods * (3 + roles),
        "pages with an id x methods x own team": pages_with_uid * methods,
        "API routes x (3 kinds of no key, reading key, full key, hidden project, token of each role)": routes
        * (6 + roles),
        "API routes with an id x (key, token) of another team": with_uid * 2,
    }
    total = sum(lines.values())
    for text, number in lines.items():
        print(f"{number:>6}  {text}")
    print(f"{total:>6}  expectations over {pages} pages and {routes} API routes")
    record_testsuite_property("matrix_expectations", total)
    assert total > 3000
