/** Short messages in a corner. Never the only copy of anything: the page says it too. */

import check from 'lucide-static/icons/circle-check.svg?raw'
import alert from 'lucide-static/icons/circle-alert.svg?raw'
import info from 'lucide-static/icons/info.svg?raw'
import close from 'lucide-static/icons/x.svg?raw'
import { drawing } from './icons'
import { text } from './text'

export type Tone = 'succeeded' | 'failed' | 'paused' | 'queued'

const PICTURES: Record<Tone, string> = { succeeded: check, failed: alert, paused: alert, queued: info }
const STAY = 6000

/** Show `message`; errors stay until somebody closes them. */
export function toast(message: string, tone: Tone = 'succeeded'): void {
  const list = document.getElementById('toasts')
  if (!list || !message) return
  const element = document.createElement('div')
  element.className = `toast tone-${tone}`
  const words = document.createElement('p')
  words.textContent = message
  const button = document.createElement('button')
  button.type = 'button'
  button.dataset.dismiss = ''
  button.ariaLabel = text('close')
  button.append(drawing(close))
  element.append(drawing(PICTURES[tone]), words, button)
  list.append(element)
  keepOrGo(element)
}

/** Start the clocks of toasts that came with the page, and close them on request. */
export function startToasts(): void {
  for (const element of document.querySelectorAll<HTMLElement>('.toast')) keepOrGo(element)
  document.addEventListener('click', (event) => {
    const button = (event.target as Element).closest('[data-dismiss]')
    button?.closest('.toast, .notice')?.remove()
  })
  document.addEventListener('toast', (event) => {
    const { message, tone } = (event as CustomEvent<{ message: string; tone?: Tone }>).detail
    toast(message, tone)
  })
}

function keepOrGo(element: HTMLElement): void {
  if (element.classList.contains('tone-failed')) return
  let clock = window.setTimeout(() => element.remove(), STAY)
  element.addEventListener('pointerenter', () => window.clearTimeout(clock))
  element.addEventListener('pointerleave', () => {
    clock = window.setTimeout(() => element.remove(), STAY / 2)
  })
}
