/** Lists of trainings whose bars move by themselves; a change of state draws the list again. */

import htmx from 'htmx.org'
import { text } from './frame/text'
import { LiveConnection, type LiveEvent } from './live'
import { span } from './spans'

// Phases of short work that are all there is to it: their share moves the bar.
const SHARED = new Set(['draw', 'caption'])
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
        if (event.type === 'status' || event.type === 'finding' || (event.type === 'sample' && 'pictures' in row.dataset)) refresh()
        if (event.type === 'metrics') showBar(row, Number(event.data.step), event.data)
        if (event.type === 'phase' && moves(row, String(event.data.phase))) showShare(row, Number(event.data.done), Number(event.data.total))
      },
    })),
  )
  return () => {
    clearTimeout(timer)
    live.close()
  }
}

/** Tell whether a phase moves a row's bar: a training is measured at its end too, and its bar counts steps. */
function moves(row: HTMLElement, phase: string): boolean {
  return SHARED.has(phase) || (phase === 'evaluate' && 'pictures' in row.dataset)
}

/** Move a row's bar; return its share in percent, null where there is none. */
function showShare(row: HTMLElement, done: number, total: number): number | null {
  const bar = row.querySelector<HTMLElement>('[role=progressbar]')
  if (!bar || !total) return null
  const share = Math.min(100, (100 * done) / total)
  bar.style.setProperty('--share', share.toFixed(1))
  bar.setAttribute('aria-valuenow', String(Math.round(share)))
  return share
}

function showBar(row: HTMLElement, step: number, data: Record<string, unknown>): void {
  const share = showShare(row, step, Number(data.total_steps))
  if (share === null) return
  const label = row.querySelector('[data-progress-label]')
  if (label) label.textContent = `${Math.floor(share)} %`
  const note = row.querySelector('[data-progress-note]')
  const eta = Number(data.eta_seconds)
  if (note) note.textContent = eta ? text('left', { time: span(eta, row) }, row) : ''
}
