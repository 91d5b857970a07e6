"""Draw the few pages a person meets at Stripe's: pay, manage, look at an invoice."""

from __future__ import annotations

from html import escape

from tests.stripe_server.forms import Obj
from tests.stripe_server.routing import Page

_FRAME = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>body{{font:16px/1.5 system-ui;max-width:34rem;margin:3rem auto;padding:0 1rem}}
form{{margin:1rem 0}}button{{font:inherit;padding:.5rem 1rem}}[role=alert]{{color:#b00020}}</style></head>
<body><p>Test payments: no money moves.</p><h1>{title}</h1>{body}</body></html>"""

CARDS = """<fieldset><legend>Card</legend>
<label><input type="radio" name="card" value="ok" checked> 4242… works</label><br>
<label><input type="radio" name="card" value="declined"> 0002… is declined</label></fieldset>"""


def frame(title: str, body: str, status: int = 200) -> Page:
    return Page(_FRAME.format(title=escape(title), body=body), status)


def money(cents: int, currency: str) -> str:
    return f"{cents / 100:.2f} {currency.upper()}"


def alert(message: str) -> str:
    return f'<p role="alert">{escape(message)}</p>' if message else ""


def link(url: str | None, label: str) -> str:
    return f'<p><a href="{escape(url)}">{escape(label)}</a></p>' if url else ""


def button(label: str, **hidden: str) -> str:
    """Return a form of one button that posts to the page it is on."""
    fields = "".join(
        f'<input type="hidden" name="{escape(k)}" value="{escape(v)}">' for k, v in hidden.items()
    )
    return f'<form method="post">{fields}<button>{escape(label)}</button></form>'


def checkout_page(session: Obj, lines: list[Obj], error: str = "") -> Page:
    rows = "".join(
        f"<li>{escape(line['description'])} × {line['quantity'] or 'usage'}: "
        f"{money(line['amount_total'], line['currency'])}</li>"
        for line in lines
    )
    email = "" if session["customer"] else '<p><label>Email <input type="email" name="email"></label></p>'
    tax_id = '<p><label>VAT number <input name="tax_id"></label></p>'
    body = (
        f"<ul>{rows}</ul><p>Due today: <strong>{money(session['amount_total'], session['currency'])}</strong></p>"
        f'{alert(error)}<form method="post">{email}{tax_id if session["tax_id_collection"]["enabled"] else ""}'
        f"{CARDS}<p><button>Pay</button></p></form>{link(session['cancel_url'], 'Cancel')}"
    )
    return frame("Checkout", body, 402 if error else 200)


def invoice_page(invoice: Obj, error: str = "") -> Page:
    rows = "".join(
        f"<li>{escape(line['description'] or '')}: {money(line['amount'], line['currency'])}</li>"
        for line in invoice["lines"]["data"]
    )
    pay = (
        f'<form method="post">{CARDS}<p><button>Pay</button></p></form>'
        if invoice["status"] == "open"
        else ""
    )
    body = (
        f"<ul>{rows}</ul><p>Total: {money(invoice['total'], invoice['currency'])}. "
        f"Status: <strong>{escape(invoice['status'])}</strong></p>{alert(error)}{pay}"
        f"{link(invoice['invoice_pdf'], 'Download')}"
    )
    return frame(f"Invoice {invoice['number']}", body, 402 if error else 200)


def invoice_pdf(invoice: Obj) -> Page:
    """Return the smallest PDF that viewers open: one page with the invoice's number and total."""
    text = f"Invoice {invoice['number']}: {money(invoice['total'], invoice['currency'])}"
    stream = f"BT /F1 18 Tf 60 760 Td ({text}) Tj ET"
    objects = [
        "<</Type/Catalog/Pages 2 0 R>>",
        "<</Type/Pages/Kids[3 0 R]/Count 1>>",
        "<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>",
        f"<</Length {len(stream)}>>stream\n{stream}\nendstream",
        "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    content, places = "%PDF-1.4\n", []
    for number, entry in enumerate(objects, start=1):
        places.append(len(content))
        content += f"{number} 0 obj{entry}endobj\n"
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    size = len(objects) + 1
    end = f"xref\n0 {size}\n0000000000 65535 f \n{table}trailer<</Size {size}/Root 1 0 R>>\n"
    content += f"{end}startxref\n{len(content)}\n%%EOF\n"
    return Page(content.encode("latin-1"), kind="application/pdf")
