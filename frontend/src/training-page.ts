/** The page of one training: bar, curve, log and samples follow the events; the rest is drawn again by the server. */

import htmx from 'htmx.org'
import { Curve, figure, type Marks, MetricChart } from './charts'
import { text } from './frame/text'
import { type Health, LiveConnection, type LiveEvent } from './live'
import { countOn, span } from './spans'

/** Parts of the page that the server draws anew when an event of this type comes. */
const PARTS: Record<string, string[]> = {
  status: ['head', 'files'],
  sample: ['samples'],
  checkpoint: ['files'],
  evaluation: ['head'],
}
/** The types of event that are lines of the log, and how each tells its level. */
const LOGGED: Record<string, (data: Record<string, unknown>) => string> = {
  status: () => 'status',
  warning: () => 'warning',
  log: (data) => String(data.level ?? 'info'),
}
const FINAL = new Set(['succeeded', 'failed', 'canceled', 'stopped'])
const LOG_LINES = 1000
const GATHER = 250
const QUEUE_EVERY = 10_000

type Series = Record<string, Array<[number, number | null]>>

function parsed<T>(id: string, fallback: T): T {
  const content = document.getElementById(id)?.textContent
  return content ? (JSON.parse(content) as T) : fallback
}

export function mount(page: HTMLElement): () => void {
  const parts = new Map<string, number>()
  const redraw = (part: string): void => {
    if (parts.has(part)) return
    parts.set(
      part,
      window.setTimeout(() => {
        parts.delete(part)
        void htmx.ajax('get', `${page.dataset.url}?part=${part}`, { target: `#job-${part}`, swap: 'outerHTML' })
      }, GATHER),
    )
  }
  const curve = mountCurve(page)
  const log = mountLog(page)

  const onEvent = (event: LiveEvent): void => {
    for (const part of PARTS[event.type] ?? []) redraw(part)
    if (event.type === 'metrics') {
      curve.add(event.data.series as Series)
      showProgress(page, event.data)
    } else if (event.type === 'phase') {
      showPhase(page, event.data)
    } else if (event.type === 'sample' || event.type === 'checkpoint') {
      curve.mark(event.type, Number(event.data.step), event.data.with_lora !== false)
    }
    log.add(event)
    page.dispatchEvent(new CustomEvent('training:event', { detail: event, bubbles: true }))
    if (event.type === 'status') {
      page.dataset.state = String(event.data.state)
      if (FINAL.has(page.dataset.state)) {
        live.close()
        drawToTheEnd(page)
      }
    }
  }
  const live = new LiveConnection(
    page.dataset.active === 'yes'
      ? [
          {
            name: page.dataset.topic ?? '',
            after: Number(page.dataset.after),
            pollUrl: page.dataset.poll ?? '',
            onEvent,
          },
        ]
      : [],
    { onHealth: (health) => showHealth(page, health) },
  )
  // The head is replaced now and then: the dot is drawn again from what was last known.
  const keepHead = (): void => {
    showHealth(page, (page.dataset.live as Health | undefined) ?? 'waiting')
    countOn(page)
  }
  page.addEventListener('htmx:afterSwap', keepHead)
  countOn(page)
  const clock = window.setInterval(() => countOn(page), 1000)
  // The place in the queue has no event of its own.
  const queue = window.setInterval(() => {
    if (page.querySelector('#job-head[data-state=queued]') && !document.hidden) redraw('head')
  }, QUEUE_EVERY)
  return () => {
    live.close()
    clearInterval(queue)
    clearInterval(clock)
    curve.destroy()
    for (const timer of parts.values()) clearTimeout(timer)
    page.removeEventListener('htmx:afterSwap', keepHead)
  }
}

/** Draw all of the page anew: attempts and curve have their last state too. No reload, which would undo a click. */
function drawToTheEnd(page: HTMLElement): void {
  void htmx.ajax('get', page.dataset.url ?? '', {
    target: page,
    select: '[data-module="training-page"]',
    swap: 'outerHTML',
  })
  htmx.trigger(document.body, 'jobs-changed')
}

function showHealth(page: HTMLElement, health: Health): void {
  page.dataset.live = health
  const dot = page.querySelector<HTMLElement>('[data-health]')
  if (!dot) return
  dot.hidden = false
  dot.dataset.health = health
  const words = dot.querySelector('[data-health-text]')
  if (words) words.textContent = text(`health-${health}`, {}, page)
}

function gauge(page: HTMLElement, name: string, value: string): void {
  const element = page.querySelector(`[data-gauge="${name}"]`)
  if (element) element.textContent = value
}

function setBar(page: HTMLElement, share: number | null, label: string, note: string): void {
  const holder = page.querySelector('[data-progress]')
  const bar = holder?.querySelector<HTMLElement>('[role=progressbar]')
  if (!holder || !bar) return
  let line = holder.querySelector('.progress-line')
  if (!line) {
    line = document.createElement('div')
    line.className = 'progress-line'
    line.innerHTML = '<span data-progress-label></span><span data-progress-note></span>'
    bar.before(line)
  }
  const [first, second] = line.children
  if (first) first.textContent = label
  if (second) second.textContent = note
  bar.toggleAttribute('data-indeterminate', share === null)
  if (share === null) bar.removeAttribute('aria-valuenow')
  else {
    bar.setAttribute('aria-valuenow', String(Math.round(share)))
    bar.style.setProperty('--share', share.toFixed(1))
  }
}

function showProgress(page: HTMLElement, data: Record<string, unknown>): void {
  const step = Number(data.step)
  const total = Number(data.total_steps)
  const eta = Number(data.eta_seconds)
  setBar(
    page,
    total ? (100 * step) / total : null,
    text('progress', { step, total, epoch: Number(data.epoch) }, page),
    eta ? text('left', { time: span(eta, page) }, page) : '',
  )
  const speed = Number(data.steps_per_second)
  if (speed) gauge(page, 'speed', text('speed', { n: speed.toFixed(2) }, page))
  const losses = (data.series as Series | undefined)?.loss
  const last = losses?.at(-1)?.[1]
  if (typeof last === 'number') gauge(page, 'loss', last.toFixed(4))
  const memory = Number(data.memory_mb)
  if (memory) gauge(page, 'memory', memory < 1000 ? `${memory} MB` : `${(memory / 1024).toFixed(1)} GB`)
}

function showPhase(page: HTMLElement, data: Record<string, unknown>): void {
  const phase = String(data.phase)
  const label = text(`phase-${phase}`, {}, page)
  gauge(page, 'phase', label)
  if (phase === 'train' || phase === 'sample') return
  const [done, total] = [Number(data.done), Number(data.total)]
  setBar(page, total > 1 ? (100 * done) / total : null, label, total > 1 ? `${done} / ${total}` : '')
}

interface CurvePanel {
  add(series: Series): void
  mark(kind: string, step: number, withLora: boolean): void
  destroy(): void
}

function mountCurve(page: HTMLElement): CurvePanel {
  const panel = page.querySelector<HTMLElement>('[data-chart]') as HTMLElement
  const plot = panel.querySelector<HTMLElement>('[data-plot]') as HTMLElement
  const found = parsed<Record<string, Array<[number, number]>>>('curves', {})
  const curves = new Map(Object.entries(found).map(([name, points]) => [name, new Curve(points)]))
  const marks = parsed<Marks>('marks', { checkpoints: [], samples: [] })
  const label = (name: string): string => text(name, {}, plot)
  const chart = new MetricChart(
    plot,
    { step: label('step'), raw: label('raw'), smoothed: label('smoothed'), heldOut: label('held-out') },
    marks,
  )
  let metric = 'loss'
  let frame = 0
  const draw = (): void => {
    frame = 0
    const main = curves.get(metric)
    if (!main?.size) return
    panel.querySelector<HTMLElement>('[data-chart-empty]')?.setAttribute('hidden', '')
    const heldOut = metric === 'loss' ? (curves.get('held_out_loss') ?? null) : null
    chart.draw(main, heldOut?.size ? heldOut : null)
  }
  const soon = (): void => {
    frame ||= requestAnimationFrame(draw)
  }
  for (const button of panel.querySelectorAll<HTMLButtonElement>('[data-metric]')) {
    button.addEventListener('click', () => {
      metric = button.dataset.metric ?? 'loss'
      for (const each of panel.querySelectorAll('[data-metric]')) {
        each.setAttribute('aria-pressed', String(each === button))
      }
      chart.clear()
      soon()
    })
  }
  panel.querySelector<HTMLInputElement>('[data-smoothing]')?.addEventListener('input', (event) => {
    chart.weight = Number((event.target as HTMLInputElement).value)
    soon()
  })
  panel.querySelector<HTMLInputElement>('[data-log-scale]')?.addEventListener('change', (event) => {
    chart.setLog((event.target as HTMLInputElement).checked)
  })
  const table = panel.querySelector('[data-table]')
  const folded = table?.closest('details')
  folded?.addEventListener('toggle', () => {
    const main = curves.get(metric)
    if (!folded.open || !table || !main) return
    const points = main.entries()
    const stride = Math.max(1, Math.ceil(points.length / 200))
    table.replaceChildren(
      ...points
        .filter((_, index) => index % stride === 0 || index === points.length - 1)
        .map(([step, value]) => {
          const row = document.createElement('tr')
          for (const words of [String(step), figure(value)]) {
            const cell = document.createElement('td')
            cell.className = 'num'
            cell.textContent = words
            row.append(cell)
          }
          return row
        }),
    )
  })
  draw()
  return {
    add(series) {
      for (const [name, points] of Object.entries(series ?? {})) {
        const curve = curves.get(name) ?? new Curve()
        curve.add(points)
        curves.set(name, curve)
      }
      soon()
    },
    mark(kind, step, withLora) {
      const list = kind === 'checkpoint' ? marks.checkpoints : marks.samples
      if (withLora && !list.includes(step)) list.push(step)
      soon()
    },
    destroy: () => chart.destroy(),
  }
}

function mountLog(page: HTMLElement): { add(event: LiveEvent): void } {
  const panel = page.querySelector<HTMLElement>('[data-log]') as HTMLElement
  const list = panel.querySelector<HTMLElement>('[data-log-lines]') as HTMLElement
  const follow = panel.querySelector<HTMLInputElement>('[data-log-follow]')
  const filter = panel.querySelector<HTMLInputElement>('[data-log-filter]')
  const toEnd = (): void => {
    if (follow?.checked) list.scrollTop = list.scrollHeight
  }
  const narrow = (line: Element): void => {
    const wanted = filter?.value.trim().toLowerCase() ?? ''
    line.toggleAttribute('hidden', wanted !== '' && !line.textContent?.toLowerCase().includes(wanted))
  }
  filter?.addEventListener('input', () => {
    for (const line of list.children) narrow(line)
    toEnd()
  })
  follow?.addEventListener('change', toEnd)
  // Who scrolls up wants to read: following would tear the line away.
  list.addEventListener('wheel', (event) => {
    if (event.deltaY < 0 && follow) follow.checked = false
  })
  toEnd()
  return {
    add(event) {
      const level = LOGGED[event.type]?.(event.data)
      if (!level) return
      const line = document.createElement('li')
      line.dataset.seq = String(event.seq)
      line.dataset.level = level
      const time = document.createElement('time')
      time.dateTime = event.at
      time.textContent = event.at.slice(11, 19)
      const words = document.createElement('span')
      if (event.type !== 'status') words.lang = 'en' // the engine's own words
      words.textContent =
        event.type === 'status'
          ? text(`state-${event.data.state}`, {}, list)
          : [event.data.message, event.data.hint].filter(Boolean).join(' ')
      line.append(time, words)
      narrow(line)
      list.append(line)
      while (list.children.length > LOG_LINES) list.firstElementChild?.remove()
      toEnd()
    },
  }
}
