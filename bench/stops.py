"""Every page there is to see on the tour, with something on it: see `bench.tour`."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.utils import timezone

from core.processes import wait_until
from tests.installation import Installation
from tests.stripe_server import StripeServer


@dataclass(frozen=True)
class Stop:
    """Name a page, its address, and who looks at it."""

    name: str
    address: str
    logged_in: bool = True
    status: int = 200


def guard(person: Any) -> int:
    """Give `person` recovery codes and a security key, two devices more, and return the key's number."""
    from allauth.mfa.models import Authenticator
    from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
    from allauth.usersessions.models import UserSession
    from django.conf import settings
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
    from django.contrib.sessions.backends.db import SessionStore

    from tests.accounts.doors import FIREFOX, IPHONE, SoftwareKey

    RecoveryCodes.activate(person)
    credential = SoftwareKey().create({"user": {"id": ""}, "rp": {"id": "localhost"}, "challenge": ""})
    data = {"name": "Blue key", "credential": json.loads(credential)}
    for agent in (FIREFOX, IPHONE):
        session = SessionStore()
        session.update(
            {SESSION_KEY: str(person.pk), BACKEND_SESSION_KEY: settings.AUTHENTICATION_BACKENDS[0]}
        )
        session[HASH_SESSION_KEY] = person.get_session_auth_hash()
        session.create()
        UserSession.objects.create(
            user=person, session_key=session.session_key, ip="203.0.113.7", user_agent=agent
        )
    return int(Authenticator.objects.create(user=person, type="webauthn", data=data).pk)


def draw(actor: Any, done: Any) -> Any:
    """Have pictures drawn with the model of a training, at three strengths and without it; return their order."""
    from training.services.generations import Use, create_generation

    version = done.lora_version.uid
    order = create_generation(
        actor=actor,
        prompts=["a cat, pastel style", "a rocket, pastel style"],
        mixes=[[], *([Use(version, strength)] for strength in (0.4, 0.7, 1.0))],
        settings={"seed": 7, "count": 2},
    )
    return _when_done(order)


def measure(actor: Any, done: Any) -> Any:
    """Have the files of the model of a training measured; return the evaluation."""
    from training.services.evaluations import evaluate_version

    return _when_done(evaluate_version(actor=actor, version=done.lora_version, seeds=1))


def _when_done(order: Any) -> Any:
    from training.models import TrainingJob
    from training.states import JobState

    while (order := TrainingJob.jobs.for_team(order.team).get(pk=order.pk)).state != JobState.SUCCEEDED:
        if order.is_finished:
            raise RuntimeError(f"{order.uid} ended {order.state}: {order.error_message}")
        time.sleep(1)
    return order


def caption(actor: Any, done: Any) -> Any:
    """Have tags added to the pictures of a training's set; return the order, which has just ended."""
    from training.models import CaptionMode, TrainingJob
    from training.services.captioning import caption_items
    from training.states import JobState

    order = caption_items(
        actor=actor, dataset=done.dataset_version.dataset, captioner="colours", mode=CaptionMode.APPEND
    )
    while (order := TrainingJob.jobs.for_team(actor.team).get(pk=order.pk)).state != JobState.SUCCEEDED:
        if order.is_finished:
            raise RuntimeError(f"the captions ended {order.state}: {order.error_message}")
        time.sleep(1)
    return order


def furnish(platform: Installation) -> list[Stop]:
    """Wait for the demo's training, leave a job in every other state, and return every page there is to see."""
    import django

    django.setup()
    from django.db import transaction

    from accounts.access import actor_for
    from accounts.models import User
    from projects.models import Dataset, Item, LoraModel, Project
    from training.management.commands.seed_demo import EMAIL, TEAM
    from training.models import TrainingJob
    from training.services.control import cancel_job, pause_job
    from training.services.jobs import create_job
    from training.states import JobState

    actor = actor_for(User.objects.get(email=EMAIL), TEAM)
    jobs = TrainingJob.objects.for_team(actor.team)
    while (done := jobs.earliest("pk")).state != JobState.SUCCEEDED:
        if done.is_finished:
            raise RuntimeError(f"the demo training ended {done.state}: {done.error_message}")
        time.sleep(1)

    def another(name: str) -> TrainingJob:
        return create_job(
            actor=actor,
            dataset_version=done.dataset_version,
            foundation_model=done.foundation_model,
            template="style",
            name=name,
            trigger="pastel style",
            prompts=["a cat", "a rocket"],
        )

    drawn = draw(actor, done)
    captioned = caption(actor, done)
    measured = measure(actor, done)
    # In one transaction, so that no worker sees them before they are what they shall be.
    with transaction.atomic():
        cancel_job(actor=actor, job=another("Given up"))
        paused = pause_job(actor=actor, job=another("For later"))
        waiting = another("Waits its turn")
        later = timezone.now() + timedelta(hours=1)
        jobs.filter(pk=waiting.pk).update(
            run_after=later,
            place=3,
            waits_for="turn",
            expected_start=later,
            latest_start=later + timedelta(hours=1),
        )
        failed = cancel_job(actor=actor, job=another("Too fast"))
        jobs.filter(pk=failed.pk).update(
            state=JobState.FAILED,
            error_code="diverged",
            error_category="user",
            error_message="Training diverged twice, at last before step 40.",
            error_hint="Lower the learning rate to a quarter and start again.",
            error_patch={"/training/learning_rate": 0.00025},
        )
    project = Project.objects.for_team(actor.team).get()
    dataset = Dataset.objects.for_team(actor.team).get(pk=done.dataset_version.dataset_id)
    item = Item.objects.for_team(actor.team).filter(dataset=dataset).earliest("pk")
    model = LoraModel.objects.for_team(actor.team).get()
    if not wait_until(lambda: any((platform.var / "mail").glob("*")), timeout=30):
        raise RuntimeError("no mail came")
    mail = next((platform.var / "mail").iterdir()).stem
    key = guard(actor.user)
    guest, invited, token = company(actor)
    team = f"/t/{TEAM}"
    pages = {
        "home": "/",
        "projects": "/projects/",
        "project": f"/projects/{project.uid}/",
        "project new": "/projects/new/",
        "project change": f"/projects/{project.uid}/change/",
        "dataset": f"/datasets/{dataset.uid}/",
        "dataset captions": f"/datasets/{dataset.uid}/captions/",
        "captions": f"/captionings/{captioned.uid}/",
        "dataset new": f"/projects/{project.uid}/datasets/new/",
        "dataset change": f"/datasets/{dataset.uid}/change/",
        "picture": f"/items/{item.uid}/",
        "upload log": f"/datasets/{dataset.uid}/uploads/log/",
        "trainings": "/trainings/",
        "training new": f"/trainings/new/?dataset={dataset.uid}",
        "training new, nothing chosen": "/trainings/new/",
        "training succeeded": f"/trainings/{done.uid}/",
        "training failed": f"/trainings/{failed.uid}/",
        "training paused": f"/trainings/{paused.uid}/",
        "training waiting": f"/trainings/{waiting.uid}/",
        "playground": f"/playground/?again={drawn.uid}",
        "playground pictures": f"/generations/{drawn.uid}/",
        "base models": "/base-models/",
        "files compared": f"/evaluations/{measured.uid}/",
        "models": "/models/",
        "model": f"/models/{model.uid}/",
        "settings": "/settings/",
        "members": "/settings/members/",
        "keys": "/settings/keys/",
        "project visibility": f"/projects/{project.uid}/visibility/",
        "activity": "/activity/",
        "team settings delete": "/settings/?delete",
        "members invite": "/settings/members/?new",
        "keys new": "/settings/keys/?new",
        "audit log": "/settings/audit/",
        "usage": "/settings/usage/",
        "privacy": "/settings/privacy/",
        **told(actor),
        "not found": "/projects/prj_0/",
    }
    mine = {
        "profile": "/profile/",
        "team new": "/teams/new/",
        "acting": f"/operate/act-as/{guest}/",
        "invitation of another": invited,
        "notifications": "/notifications/",
        "notifications preferences": "/notifications/preferences/",
        "email": "/account/email/",
        "password change": "/account/password/change/",
        "second factor": "/account/2fa/",
        "second factor app": "/account/2fa/totp/activate/",
        "second factor keys": "/account/2fa/webauthn/",
        "second factor key new": "/account/2fa/webauthn/add/",
        "second factor key name": f"/account/2fa/webauthn/keys/{key}/edit/",
        "second factor key remove": f"/account/2fa/webauthn/keys/{key}/remove/",
        "second factor codes": "/account/2fa/recovery-codes/",
        "second factor codes new": "/account/2fa/recovery-codes/generate/",
        "ask again": "/account/reauthenticate/",
        "ask again code": "/account/2fa/reauthenticate/",
        "sessions": "/account/sessions/",
        "connected logins": "/account/3rdparty/",
        "delete account": "/profile/delete/",
        "logout": "/account/logout/",
        "mails": "/dev/mail/",
        "mail": f"/dev/mail/{mail}/",
        "mail body": f"/dev/mail/{mail}/body/",
    }
    anybody = {
        "login": "/account/login/",
        "invitation": invited,
        "invitation ended": token,
        "signup": "/account/signup/",
        "password reset": "/account/password/reset/",
        "password reset done": "/account/password/reset/done/",
        "password reset key": "/account/password/reset/key/1-nonsense/",
        "verification sent": "/account/confirm-email/",
        "other login": "/account/oidc/sso/login/",
        "other login cancelled": "/account/3rdparty/login/cancelled/",
        "other login failed": "/account/3rdparty/login/error/",
        "account deleted": "/profile/deleted/",
        "api docs": "/api/docs/",
    }
    status = {"not found": 404, "other login failed": 401, "invitation ended": 404}
    return [
        *(Stop(name, team + address, status=status.get(name, 200)) for name, address in pages.items()),
        *(Stop(name, address) for name, address in mine.items()),
        *(
            Stop(name, address, logged_in=False, status=status.get(name, 200))
            for name, address in anybody.items()
        ),
    ]


def pay(stripe: StripeServer) -> list[Stop]:
    """Put the demo's team on a paid plan with a month of use behind it and a card that fails; return pages of money."""
    import django

    django.setup()
    from accounts.access import actor_for
    from accounts.models import User
    from billing.duties import reconcile
    from billing.models import BillingAccount, Plan, UsageEntry
    from billing.services.ledger import hold
    from billing.services.purchases import buy_top_up, choose_plan, set_seats, set_spend_limit
    from billing.services.usage import record_usage
    from training.management.commands.seed_demo import EMAIL, TEAM
    from training.models import TrainingJob

    actor = actor_for(User.objects.get(email=EMAIL), TEAM)
    for address in (
        choose_plan(actor=actor, key="team", once="tour"),
        buy_top_up(actor=actor, key="gpu-60", once="tour"),
    ):
        stripe.control("pay", session=address.rpartition("/")[2], outcome="ok")
    reconcile()
    set_seats(actor=actor, seats=2, once="tour")
    set_spend_limit(actor=actor, cents=5_000)
    hold(actor.team, job_uid="trn_tour", seconds=80_000)
    today = timezone.now()
    for day in range(today.day):
        record_usage(
            team=actor.team,
            job_uid="trn_tour",
            attempt=day,
            seconds=600 + 2_400 * (day * 7 % 5),
            useful=day % 6 != 5,
            user=actor.user,
            project_name="Stickers" if day % 2 else "Product shots",
        )
        rows = UsageEntry.objects.for_team(actor.team).filter(job_uid="trn_tour", attempt=day)
        rows.update(created_at=today - timedelta(days=day))
    customer = BillingAccount.objects.for_team(actor.team).get().stripe_customer
    stripe.control("card", customer=customer, outcome="declined")
    stripe.control("advance", seconds=32 * 86_400)
    reconcile()
    done = TrainingJob.objects.for_team(actor.team).earliest("pk")
    plan = Plan.objects.get(key="team").pk
    return [
        Stop("money prices", "/pricing/", logged_in=False),
        Stop("money plan", f"/t/{TEAM}/settings/plan/"),
        Stop("money usage", f"/t/{TEAM}/settings/usage/"),
        Stop("money receipt", f"/t/{TEAM}/trainings/{done.uid}/"),
        Stop("money training new", f"/t/{TEAM}/trainings/new/?dataset={done.dataset_version.dataset.uid}"),
        Stop("money overview", "/admin/billing/plan/overview/"),
        Stop("money plan editor", f"/admin/billing/plan/{plan}/change/"),
        Stop("money ledger", "/admin/billing/ledgertransaction/"),
        Stop("money messages", "/admin/billing/stripeevent/"),
        Stop("money accounts", "/admin/billing/billingaccount/"),
    ]


def company(actor: Any) -> tuple[str, str, str]:
    """Give the team a second member, keys and an invitation; return her id, the invitation's link and a false one."""
    from urllib.parse import urlsplit

    from accounts.models import Membership, User
    from accounts.roles import Role
    from accounts.services.api_keys import create_api_key
    from accounts.services.invitations import invite, link_of
    from accounts.services.memberships import change_role

    dora = User.objects.create_user("dora@example.org", "a long pass phrase", name="Dora Maar")
    Membership.objects.create(team=actor.team, user=dora, role=Role.VIEWER)
    change_role(actor=actor, user_uid=dora.uid, role=Role.REVIEWER)
    create_api_key(actor=actor, name="Build server", allowed_networks=["203.0.113.0/24"])
    create_api_key(actor=actor, name="Trial", is_test=True, expires_at=timezone.now() + timedelta(days=30))
    link = urlsplit(link_of(invite(actor=actor, email="max@example.org", role=Role.EDITOR))).path
    return dora.uid, link, "/invitations/false/"


def told(actor: Any) -> dict[str, str]:
    """Make a webhook with a log of every kind and return its pages."""
    from accounts.models import User
    from notifications.events import EventType, Subject
    from notifications.kinds import Kind
    from notifications.models import Delivery
    from notifications.services.deliveries import Outcome, record
    from notifications.services.notify import tell
    from notifications.services.webhooks import create_endpoint, emit

    made = create_endpoint(
        actor=actor, url="https://hooks.example.org/lora", description="Nightly tests"
    ).endpoint
    chat = create_endpoint(actor=actor, url="https://hooks.slack.com/services/T0/B0/x", kind="slack").endpoint
    outcomes = (
        Outcome(200, "ok", "", 84),
        Outcome(302, "", "Redirects are not followed. Enter the final address: https://www.example.org/", 31),
        Outcome(error="No answer within 15 seconds.", duration_ms=15_003),
    )
    page = f"/t/{actor.team.slug}/"
    for outcome in outcomes:
        emit(actor.team, EventType.TRAINING_SUCCEEDED, Subject("trn_1", "training", "Pastel sticker", page))
        rows = Delivery.objects.for_team(actor.team).select_related("endpoint", "event", "team")
        record(rows.filter(endpoint=made).latest("pk"), outcome)
    shown = Delivery.objects.for_team(actor.team).filter(endpoint=made).latest("pk")
    lines = (
        (Kind.MEMBER_JOINED, "Dora", ""),
        (Kind.TRAINING_CANCELED, "Pastel sticker", "Dora"),
        (Kind.WEBHOOK_DISABLED, chat.host, ""),
    )
    for kind, name, who in lines:
        subject = Subject(chat.uid, "webhook_endpoint", name, page)
        tell(
            team=actor.team, kind=kind, people=User.objects.filter(pk=actor.user.pk), subject=subject, who=who
        )
    base = "/settings/webhooks/"
    return {
        "webhooks": base,
        "webhook new": f"{base}new/",
        "webhook": f"{base}{made.uid}/",
        "webhook delivery": f"/settings/deliveries/{shown.uid}/",
    }
