/** The form of a new training: prompts to click, folded groups that stay open, what is sent stays what is seen. */

/** Return `lines` with the prompt added at the end, once; a prompt without a place for the trigger word gets one. */
export function addPrompt(lines: string, prompt: string, most = 8): string {
  const kept = lines.split(/\r?\n/).filter((line) => line.trim())
  const wanted = prompt.includes('{trigger}') ? prompt : `${prompt}, {trigger}`
  if (kept.includes(wanted) || kept.length >= most) return kept.join('\n')
  return [...kept, wanted].join('\n')
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
  document.body.addEventListener('htmx:oobAfterSwap', reveal, options)
  reveal()
  return () => stop.abort()
}
