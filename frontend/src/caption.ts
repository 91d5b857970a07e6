/** The caption editor: saves while somebody types, and goes to the next picture by keyboard. */

import { detailOf } from './upload-results'
import { text } from './frame/text'

const PAUSE = 600

export function mount(editor: HTMLElement): () => void {
  const stopping = new AbortController()
  const { signal } = stopping
  const area = editor.querySelector<HTMLTextAreaElement>('textarea')
  const saver = area ? new Saver(editor, area) : null
  editor.dataset.ready = ''

  area?.addEventListener('input', () => saver?.later(), { signal })
  area?.addEventListener('blur', () => void saver?.now(), { signal })
  editor.querySelector('form')?.addEventListener('submit', (event) => {
    event.preventDefault()
    go('next')
  }, { signal })
  document.addEventListener('keydown', (event) => {
    const wanted = direction(event)
    if (!wanted) return
    event.preventDefault()
    go(wanted)
  }, { signal })
  window.addEventListener('pagehide', () => void saver?.now(), { signal })

  function go(where: 'next' | 'previous'): void {
    // The request keeps itself alive when the page goes: nothing typed is lost.
    void saver?.now()
    editor.querySelector<HTMLElement>(`[data-${where}]`)?.click()
  }

  if (area && matchMedia('(hover: hover)').matches) {
    area.focus({ preventScroll: true })
    area.setSelectionRange(area.value.length, area.value.length)
  }
  return () => {
    void saver?.now()
    stopping.abort()
  }
}

/** Return where a key leads: Alt with an arrow, Page Up and Down, or Ctrl with Enter. */
export function direction(event: KeyboardEvent): 'next' | 'previous' | null {
  if (event.isComposing) return null
  if ((event.altKey && event.key === 'ArrowRight') || event.key === 'PageDown') return 'next'
  if ((event.altKey && event.key === 'ArrowLeft') || event.key === 'PageUp') return 'previous'
  if ((event.ctrlKey || event.metaKey) && event.key === 'Enter') return 'next'
  return null
}

/** Save a caption: a moment after the last key, one request at a time, never an older text after a newer one. */
export class Saver {
  private saved: string
  private clock = 0
  private busy: Promise<void> | null = null

  constructor(
    private readonly editor: HTMLElement,
    private readonly area: HTMLTextAreaElement,
  ) {
    this.saved = area.value
  }

  later(): void {
    window.clearTimeout(this.clock)
    this.clock = window.setTimeout(() => void this.now(), PAUSE)
  }

  async now(): Promise<void> {
    window.clearTimeout(this.clock)
    while (this.busy) await this.busy
    if (this.area.value === this.saved) return
    this.busy = this.save(this.area.value)
    await this.busy
  }

  private async save(caption: string): Promise<void> {
    const form = this.area.form
    const token = form?.querySelector<HTMLInputElement>('[name=csrfmiddlewaretoken]')?.value ?? ''
    this.say(text('saving', {}, this.editor))
    try {
      const answer = await fetch(this.editor.dataset.save ?? '', {
        method: 'POST',
        headers: { Accept: 'application/json', 'X-CSRFToken': token },
        body: new URLSearchParams({ caption }),
        keepalive: true,
      })
      if (answer.ok) {
        this.saved = caption
        this.say(text('saved', {}, this.editor))
      } else {
        this.say(detailOf(await answer.text()) || text('not-saved', {}, this.editor))
      }
    } catch {
      this.say(text('not-saved', {}, this.editor))
      this.later()
    } finally {
      this.busy = null
    }
  }

  private say(words: string): void {
    const status = this.editor.querySelector<HTMLElement>('[data-status]')
    if (status) status.textContent = words
  }
}
