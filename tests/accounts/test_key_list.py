"""The list of a team's API keys, as its page shows it."""

from __future__ import annotations

import pytest

from accounts.services.api_keys import create_api_key, revoke_api_key
from tests.projects.conftest import browser
from tests.scenario import Scenario

pytestmark = pytest.mark.django_db


def test_keys_that_are_valid_come_before_revoked_ones_and_new_ones_before_old_ones(
    scenario: Scenario,
) -> None:
    for name in ("old", "revoked first", "new", "revoked last"):
        made = create_api_key(actor=scenario.alice, name=name)
        if name.startswith("revoked"):
            revoke_api_key(actor=scenario.alice, uid=made.key.uid)
    shown = browser(scenario.alice).get("/t/atelier/settings/keys/").content.decode()
    cells = [f'<td class="strong">{name}</td>' for name in ("new", "old", "revoked last", "revoked first")]
    places = [shown.index(cell) for cell in cells]
    assert places == sorted(places)
