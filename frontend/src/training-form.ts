/** The form of a new training: prompts to click, folded groups that stay open, what is sent stays what is seen. */

/** Return `lines` with the prompt added at the end, once; a prompt without a place for the trigger word gets one. */
export function addPrompt(lines: string, prompt: string, most = 8): string {
  const kept = lines.split(/\r?\n/).filter((line) => line.trim())
  const wanted = prompt.includes('{trigger}') ? prompt : `${prompt}, {trigger}`
  if (kept.includes(wanted) || kept.length >= most) return kept.join('\n')
  return [...kept, wanted].join('\n')
}

/** Where the focus was: a field by its id, or the range of the slider whose number field has that id. */
export interface Held {
  id: string
  range: boolean
  typed: string | null
}

/** Remember the focused field of `form`, with its value if somebody has changed it since the server drew it. */
export function hold(form: HTMLElement): Held | null {
  const field = document.activeElement
  if (!field || !form.contains(field)) return null
  if (!(field instanceof HTMLInputElement || field instanceof HTMLTextAreaElement))
    return field.id ? { id: field.id, range: false, typed: null } : null
  const range = field.type === 'range'
  const id = range ? (field.closest('.slider')?.querySelector<HTMLElement>('input[type=number]')?.id ?? '') : field.id
  const isText = !range && field.type !== 'checkbox' && field.type !== 'radio'
  return id ? { id, range, typed: isText && field.value !== field.defaultValue ? field.value : null } : null
}

/** Put the focus back after the fields were drawn again. */
export function giveBack(held: Held): void {
  const named = document.getElementById(held.id)
  const field = held.range ? named?.closest('.slider')?.querySelector<HTMLElement>('input[type=range]') : named
  if (!field || field === document.activeElement) return
  if (held.typed !== null) (field as HTMLInputElement).value = held.typed
  field.focus({ preventScroll: true })
}

export function mount(form: HTMLElement): () => void {
  const stop = new AbortController()
  const options = { signal: stop.signal }
  const open = new Set<string>()
  const reveal = (): void => {
    for (const offer of form.querySelectorAll<HTMLElement>('[data-prompts]')) offer.hidden = false
    for (const id of open) document.getElementById(id)?.setAttribute('open', '')
  }
  form.addEventListener(
    'click',
    (event) => {
      const chip = (event.target as Element).closest<HTMLElement>('[data-add-prompt]')
      const area = form.querySelector<HTMLTextAreaElement>('textarea[name=prompts]')
      if (!chip || !area) return
      area.value = addPrompt(area.value, chip.dataset.addPrompt ?? '')
      area.dispatchEvent(new Event('change', { bubbles: true }))
    },
    options,
  )
  // `toggle` does not bubble.
  form.addEventListener(
    'toggle',
    (event) => {
      const group = event.target as HTMLDetailsElement
      if (group.open) open.add(group.id)
      else if (group.isConnected) open.delete(group.id)
    },
    { ...options, capture: true },
  )
  // The settings are drawn again while somebody may be in them: focus and what is being typed stay.
  let held: Held | null = null
  document.body.addEventListener('htmx:oobBeforeSwap', () => (held = hold(form)), options)
  document.body.addEventListener(
    'htmx:oobAfterSwap',
    () => {
      reveal()
      if (held) giveBack(held)
    },
    options,
  )
  reveal()
  return () => stop.abort()
}
