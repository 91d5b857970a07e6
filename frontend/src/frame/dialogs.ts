/** Dialogs: `data-dialog-open="id"`, `data-dialog-close`, and `data-confirm="id"` on a form or one of its buttons. */

function dialog(id: string | undefined): HTMLDialogElement | null {
  const found = id ? document.getElementById(id) : null
  return found instanceof HTMLDialogElement ? found : null
}

/** Open as a modal, at its first field if it has one rather than at the button that closes it. */
function show(element: HTMLDialogElement | null): void {
  element?.showModal()
  if (element?.querySelector('[autofocus]')) return
  const fields = '[aria-invalid="true"], .dialog-body :is(input:not([type=hidden]), select, textarea)'
  element?.querySelector<HTMLElement>(fields)?.focus()
}

function onClick(event: MouseEvent): void {
  const target = event.target as Element
  const opener = target.closest<HTMLElement>('[data-dialog-open]')
  if (opener) {
    event.preventDefault()
    show(dialog(opener.dataset.dialogOpen))
    return
  }
  if (target.closest('[data-dialog-close]')) {
    target.closest('dialog')?.close()
    return
  }
  // The backdrop belongs to the dialog element itself; its content is in children.
  if (target instanceof HTMLDialogElement && target.open && !target.hasAttribute('data-keep')) target.close()
}

/** Ask before a form is sent: the dialog's `data-dialog-confirm` button sends it. Without a script it is sent at once. */
function onSubmit(event: SubmitEvent): void {
  const form = event.target as HTMLFormElement
  const question = dialog(event.submitter?.dataset.confirm ?? form.dataset.confirm)
  if (!question || form.dataset.confirmed !== undefined) {
    delete form.dataset.confirmed
    return
  }
  event.preventDefault()
  event.stopImmediatePropagation()
  question.showModal()
  const yes = question.querySelector<HTMLElement>('[data-dialog-confirm]')
  yes?.addEventListener(
    'click',
    () => {
      question.close()
      form.dataset.confirmed = ''
      form.requestSubmit(event.submitter)
    },
    { once: true, signal: closed(question) },
  )
}

function closed(question: HTMLDialogElement): AbortSignal {
  const stop = new AbortController()
  // A task later: the confirming click closes the dialog itself, and must still be heard.
  question.addEventListener('close', () => setTimeout(() => stop.abort()), { once: true })
  return stop.signal
}

export function startDialogs(): void {
  document.addEventListener('click', onClick)
  // Capturing: before htmx sends the form.
  document.addEventListener('submit', onSubmit, { capture: true })
  // They come open for browsers without scripts; with one they become modal.
  for (const open of document.querySelectorAll<HTMLDialogElement>('dialog[data-open]')) {
    open.removeAttribute('open')
    show(open)
  }
}
