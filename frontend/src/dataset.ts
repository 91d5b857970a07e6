/** The grid of a picture set: select many, also by Shift, and say how many are selected. */

import { text } from './frame/text'

export function mount(form: HTMLElement): () => void {
  const stopping = new AbortController()
  const { signal } = stopping
  let last: HTMLInputElement | null = null
  form.dataset.ready = ''

  form.addEventListener('click', (event) => {
    const box = event.target
    if (!(box instanceof HTMLInputElement) || !box.matches('.tile-select')) return
    const all = boxes(form)
    if (event.shiftKey && last && last !== box) selectBetween(all, last, box)
    last = box
    draw(form)
  }, { signal })
  form.addEventListener('change', () => draw(form), { signal })
  form.addEventListener('reset', () => window.setTimeout(() => draw(form)), { signal })
  form.addEventListener('formdata', (event) => shorten((event as FormDataEvent).formData), { signal })
  document.addEventListener('keydown', (event) => {
    if (event.key !== 'Escape' || !boxes(form).some((box) => box.checked)) return
    if (event.target instanceof HTMLInputElement && event.target.type !== 'checkbox') return
    if (form instanceof HTMLFormElement) form.reset()
  }, { signal })
  // The first pictures came without a reload: now there is something to freeze.
  const freeze = document.getElementById('freeze')
  if (freeze) freeze.hidden = form.dataset.included === '0'
  draw(form)
  return () => stopping.abort()
}

function boxes(form: HTMLElement): HTMLInputElement[] {
  return [...form.querySelectorAll<HTMLInputElement>('.tile-select')]
}

/** Give every box between two the state of the second. */
export function selectBetween(all: HTMLInputElement[], from: HTMLInputElement, to: HTMLInputElement): void {
  const [start, end] = [all.indexOf(from), all.indexOf(to)].sort((a, b) => a - b)
  for (const box of all.slice(start, (end ?? 0) + 1)) box.checked = to.checked
}

/** Send the selection as one field: Django takes at most 1000 fields. */
export function shorten(data: FormData): void {
  const uids = data.getAll('items')
  data.delete('items')
  if (uids.length) data.set('uids', uids.join(','))
}

function draw(form: HTMLElement): void {
  const everything = form.querySelector<HTMLInputElement>('[data-everything]')?.checked ?? false
  const chosen = everything ? Number(form.dataset.total) : boxes(form).filter((box) => box.checked).length
  for (const count of form.querySelectorAll('[data-count]')) count.textContent = text('selected', { n: chosen }, form)
  form.toggleAttribute('data-selecting', chosen > 0)
  const choice = form.querySelector<HTMLSelectElement>('[data-choice]')
  form.toggleAttribute('data-replacing', choice?.value === 'replace')
}
