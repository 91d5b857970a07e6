/** Lists of trainings whose bars move by themselves; a change of state draws the list again. */

import htmx from 'htmx.org'
import { text } from './frame/text'
import { LiveConnection, type LiveEvent } from './live'
import { span } from './spans'

const OVER = new Set(['succeeded', 'failed', 'canceled', 'stopped', 'paused'])

export function mount(list: HTMLElement): () => void {
  const rows = [...list.querySelectorAll<HTMLElement>('[data-job]')].filter((row) => !OVER.has(row.dataset.state ?? ''))
  let timer = 0
  const refresh = (): void => {
    clearTimeout(timer)
    timer = window.setTimeout(() => {
      const url = list.dataset.refresh
      if (url) void htmx.ajax('get', url, { target: list, swap: 'outerHTML' })
      else location.reload()
    }, 400)
  }
  const live = new LiveConnection(
    rows.map((row) => ({
      name: `training:${row.dataset.job}`,
      after: Number(row.dataset.after),
      pollUrl: row.dataset.poll ?? '',
      onEvent: (event: LiveEvent): void => {
        if (event.type === 'status') refresh()
        if (event.type === 'metrics') showBar(row, event.data)
      },
    })),
  )
  return () => {
    clearTimeout(timer)
    live.close()
  }
}

function showBar(row: HTMLElement, data: Record<string, unknown>): void {
  const bar = row.querySelector<HTMLElement>('[role=progressbar]')
  const total = Number(data.total_steps)
  if (!bar || !total) return
  const share = Math.min(100, (100 * Number(data.step)) / total)
  bar.style.setProperty('--share', share.toFixed(1))
  bar.setAttribute('aria-valuenow', String(Math.round(share)))
  const label = row.querySelector('[data-progress-label]')
  if (label) label.textContent = `${Math.floor(share)} %`
  const note = row.querySelector('[data-progress-note]')
  const eta = Number(data.eta_seconds)
  if (note) note.textContent = eta ? text('left', { time: span(eta, row) }, row) : ''
}
