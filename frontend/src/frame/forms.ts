/** Forms: no double sending, sliders that speak, values to copy, fields that show what was typed. */

import { text } from './text'

/** Mark the pressed button as busy; a form that was sent is not sent again. */
function onSubmit(event: SubmitEvent): void {
  const form = event.target as HTMLFormElement
  if (event.defaultPrevented || form.method === 'dialog' || form.hasAttribute('data-again')) return
  if (form.dataset.sent !== undefined) {
    event.preventDefault()
    return
  }
  // htmx ends its own; a page that is left behind and shown again by "back" is cleaned in `pageshow`.
  form.dataset.sent = ''
  event.submitter?.setAttribute('aria-busy', 'true')
}

function release(root: ParentNode): void {
  for (const form of root.querySelectorAll<HTMLFormElement>('form[data-sent]')) delete form.dataset.sent
  for (const button of root.querySelectorAll('[aria-busy="true"].btn')) button.removeAttribute('aria-busy')
}

/** Keep the range, the number beside it and the drawn share of one slider together. */
function onInput(event: Event): void {
  const input = event.target as HTMLInputElement
  const slider = input.closest<HTMLElement>('.slider')
  if (!slider) return
  setSlider(slider, input.value, input)
}

/** Set a slider to `value`, in its own steps; `source` is left alone while somebody types in it. */
export function setSlider(slider: HTMLElement, value: string, source?: HTMLInputElement): void {
  for (const input of slider.querySelectorAll<HTMLInputElement>('input[type=range], input[type=number]')) {
    if (input !== source) input.value = value
  }
  const number = Number(value)
  if (value === '' || Number.isNaN(number)) return
  const range = slider.querySelector<HTMLInputElement>('input[type=range]')
  const low = Number(range?.min ?? 0)
  const high = Number(range?.max ?? 100)
  slider.style.setProperty('--value', String(Math.min(high, Math.max(low, number))))
}

async function onClick(event: MouseEvent): Promise<void> {
  const target = event.target as Element
  const recommend = target.closest<HTMLElement>('[data-recommended]')
  const slider = recommend?.closest<HTMLElement>('.slider')
  if (recommend && slider) {
    setSlider(slider, recommend.dataset.recommended ?? '')
    const range = slider.querySelector('input[type=number]')
    range?.dispatchEvent(new Event('input', { bubbles: true }))
    range?.dispatchEvent(new Event('change', { bubbles: true }))
    return
  }
  const reveal = target.closest<HTMLElement>('[data-reveal]')
  if (reveal) {
    const input = document.getElementById(reveal.dataset.reveal ?? '') as HTMLInputElement | null
    if (!input) return
    input.type = input.type === 'password' ? 'text' : 'password'
    reveal.setAttribute('aria-pressed', String(input.type === 'text'))
    return
  }
  const copy = target.closest<HTMLElement>('[data-copy]')
  if (copy) {
    const source = document.getElementById(copy.dataset.copy ?? '')
    const label = copy.querySelector<HTMLElement>('[data-copy-label]')
    if (source && (await copyText(source)) && label) sayCopied(label)
  }
}

/** Copy what `source` says; if the browser refuses, leave it selected, ready for Ctrl-C, and return false. */
async function copyText(source: HTMLElement): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(source.textContent?.trim() ?? '')
    return true
  } catch {
    // There is no clipboard on a page without https; the old way works there.
    getSelection()?.selectAllChildren(source)
    return document.execCommand('copy')
  }
}

const labels = new WeakMap<HTMLElement, { words: string; clock: number }>()

/** Say "Copied" on a button for a moment, also when it is pressed again meanwhile. */
function sayCopied(label: HTMLElement): void {
  const before = labels.get(label)
  window.clearTimeout(before?.clock)
  const words = before?.words ?? label.textContent ?? ''
  label.textContent = text('copied')
  const clock = window.setTimeout(() => {
    label.textContent = words
    labels.delete(label)
  }, 1800)
  labels.set(label, { words, clock })
}

/** `data-submit-on-change`: a form with nothing to read through, sent when a choice is made. */
function onChange(event: Event): void {
  const form = (event.target as HTMLInputElement).form
  if (form?.hasAttribute('data-submit-on-change')) form.requestSubmit()
}

/** An answer to a POST that shows its own page: a reload should load that page, not send the form again. */
function keepAddress(): void {
  const address = document.querySelector<HTMLElement>('[data-address]')?.dataset.address
  if (address) history.replaceState(null, '', address)
}

export function startForms(): void {
  keepAddress()
  document.addEventListener('submit', onSubmit)
  document.addEventListener('input', onInput)
  document.addEventListener('change', onChange)
  document.addEventListener('click', (event) => void onClick(event))
  document.addEventListener('htmx:afterRequest', () => release(document))
  window.addEventListener('pageshow', () => release(document))
}
