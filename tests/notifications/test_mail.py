"""Mail to one person, in their language."""

from __future__ import annotations

import pytest
from django.core import mail
from django.template import TemplateDoesNotExist

from notifications.services.mail import write_to
from tests.scenario import Scenario


def test_a_mail_without_its_templates_is_an_error_and_sends_nothing(scenario: Scenario) -> None:
    with pytest.raises(TemplateDoesNotExist):
        write_to(scenario.alice.user, "no_such_mail", {})
    assert mail.outbox == []
