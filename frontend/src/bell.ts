/** The bell: its number and its lines follow the person's own list while the page is open. */

import { toast, type Tone } from './frame/toasts'
import { LiveConnection, type LiveEvent } from './live'

const TONES: Record<string, Tone> = { succeeded: 'succeeded', failed: 'failed', warning: 'paused' }
/** Several lines in a row draw the bell once. */
const PAUSE = 300

export function mount(bell: HTMLElement): () => void {
  let timer = 0
  const refresh = async (): Promise<void> => {
    try {
      const answer = await fetch(bell.dataset.refresh ?? '', { headers: { 'HX-Request': 'true' } })
      // A login page that took its place would not be the bell's.
      if (answer.ok && !answer.redirected) fill(bell, await answer.text())
    } catch {
      // Offline: the number stays as it is, and the next line or the next page brings it up to date.
    }
  }
  const soon = (): void => {
    clearTimeout(timer)
    timer = window.setTimeout(() => void refresh(), PAUSE)
  }
  const onToggle = (): void => {
    if ((bell as HTMLDetailsElement).open) void refresh()
  }
  bell.addEventListener('toggle', onToggle)
  const live = new LiveConnection([
    {
      name: bell.dataset.topic ?? '',
      after: Number(bell.dataset.after),
      onEvent: (event: LiveEvent): void => {
        soon()
        if (event.type !== 'notification') return
        toast(String(event.data.title ?? ''), TONES[String(event.data.state)] ?? 'queued')
      },
    },
  ])
  return () => {
    clearTimeout(timer)
    bell.removeEventListener('toggle', onToggle)
    live.close()
  }
}

/** Put what the server drew into its places. */
export function fill(bell: HTMLElement, html: string): void {
  const drawn = new DOMParser().parseFromString(html, 'text/html')
  for (const place of ['[data-bell-count]', '[data-bell-lines]']) {
    const fresh = drawn.querySelector(place)
    if (fresh) bell.querySelector(place)?.replaceChildren(...fresh.childNodes)
  }
}
