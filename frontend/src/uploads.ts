/** Uploads of a picture set: drop anywhere, resume after a reload or a lost network, one result for each file. */

import * as tus from 'tus-js-client'
import { text } from './frame/text'
import { filesOf, Queue } from './upload-queue'
import { detailOf, grouped, sum, uidOf, worthReading, type UploadResult } from './upload-results'

const PARALLEL = 3
const CHUNK_BYTES = 8 * 1024 * 1024
const RETRY_DELAYS = [0, 1000, 3000, 5000, 10000]
const OFFLINE_RETRY = 5000
const POLL = 1000
const POLL_AT_ONCE = 50
/** Rows that went well leave the list after this long; what needs a word stays. */
const GOOD_STAYS = 1200

type Phase = 'waiting' | 'sending' | 'checking' | 'done' | 'broken'

/** One file of this page's list. */
class Sending {
  phase: Phase = 'waiting'
  sent = 0
  uid = ''
  result: UploadResult | null = null
  upload: tus.Upload | null = null
  row: HTMLLIElement | null = null

  constructor(readonly file: File) {}
}

export function mount(element: HTMLElement): () => void {
  const page = new UploadPanel(element)
  return () => page.stop()
}

class UploadPanel {
  private readonly stopping = new AbortController()
  private readonly queue = new Queue(PARALLEL)
  private sendings: Sending[] = []
  private polling = 0
  private drawing = 0
  private refreshing = 0
  private dragDepth = 0

  constructor(private readonly element: HTMLElement) {
    const signal = this.stopping.signal
    const input = this.find<HTMLInputElement>('input[type=file]')
    element.dataset.ready = ''
    input.addEventListener('change', () => this.take([...(input.files ?? [])], input), { signal })
    document.addEventListener('dragenter', (event) => this.drag(event, 1), { signal })
    document.addEventListener('dragleave', (event) => this.drag(event, -1), { signal })
    document.addEventListener('dragover', (event) => hasFiles(event) && event.preventDefault(), { signal })
    document.addEventListener('drop', (event) => void this.drop(event), { signal })
    document.addEventListener('paste', (event) => this.take([...(event.clipboardData?.files ?? [])]), { signal })
    window.addEventListener('beforeunload', (event) => this.active().length && event.preventDefault(), { signal })
    this.find('[data-close]').addEventListener('click', () => this.close(), { signal })
  }

  stop(): void {
    this.stopping.abort()
    for (const sending of this.sendings) void sending.upload?.abort()
    window.clearTimeout(this.polling)
    window.clearTimeout(this.refreshing)
  }

  private find<Found extends HTMLElement>(selector: string): Found {
    const found = this.element.querySelector<Found>(selector)
    if (!found) throw new Error(`The upload panel has no ${selector}`)
    return found
  }

  private active(): Sending[] {
    return this.sendings.filter((sending) => sending.phase === 'waiting' || sending.phase === 'sending')
  }

  private drag(event: DragEvent, by: number): void {
    if (!hasFiles(event)) return
    this.dragDepth = Math.max(0, this.dragDepth + by)
    this.find('[data-veil]').hidden = this.dragDepth === 0
  }

  private async drop(event: DragEvent): Promise<void> {
    if (!event.dataTransfer || !hasFiles(event)) return
    event.preventDefault()
    this.dragDepth = 0
    this.find('[data-veil]').hidden = true
    this.take(await filesOf(event.dataTransfer))
  }

  private take(files: File[], input?: HTMLInputElement): void {
    if (!files.length) return
    this.element.querySelector('[data-interrupted]')?.remove()
    this.element.querySelector('.drop-large')?.classList.remove('drop-large')
    this.element.querySelector('.drop-choose')?.classList.remove('btn-primary')
    for (const file of files) {
      const sending = new Sending(file)
      this.sendings.push(sending)
      this.queue.add(() => this.send(sending))
    }
    // The same file can be chosen again.
    if (input) input.value = ''
    this.find('[data-panel]').hidden = false
    this.draw()
  }

  private async send(sending: Sending): Promise<void> {
    if (this.stopping.signal.aborted || sending.phase === 'done') return
    sending.phase = 'sending'
    this.show(sending)
    await new Promise<void>((resolve) => {
      const upload = new tus.Upload(sending.file, {
        endpoint: this.element.dataset.endpoint ?? '',
        chunkSize: CHUNK_BYTES,
        retryDelays: RETRY_DELAYS,
        metadata: { filename: sending.file.name, filetype: sending.file.type },
        headers: { 'X-CSRFToken': this.find<HTMLInputElement>('[name=csrfmiddlewaretoken]').value, Accept: 'application/json' },
        removeFingerprintOnSuccess: true,
        onProgress: (sent) => {
          sending.sent = sent
          this.draw()
        },
        onSuccess: () => {
          sending.phase = 'checking'
          sending.sent = sending.file.size
          sending.uid = uidOf(upload.url ?? '')
          this.show(sending)
          this.poll()
          resolve()
        },
        onError: (error) => {
          this.broken(sending, error)
          resolve()
        },
      })
      sending.upload = upload
      void upload.findPreviousUploads().then((previous) => {
        const earlier = previous.find((found) => found.uploadUrl)
        if (earlier) {
          upload.resumeFromPreviousUpload(earlier)
          this.say(sending, text('resumed', {}, this.element))
        }
        upload.start()
      })
    })
  }

  private broken(sending: Sending, error: Error | tus.DetailedError): void {
    const answer = 'originalResponse' in error ? error.originalResponse : null
    if (!answer || answer.getStatus() === 0) {
      // The network is gone: wait for it and go on from the last byte that arrived.
      sending.phase = 'waiting'
      this.show(sending)
      this.say(sending, text('offline-wait', {}, this.element))
      window.setTimeout(() => this.queue.add(() => this.send(sending)), OFFLINE_RETRY)
      return
    }
    sending.phase = 'broken'
    this.show(sending)
    this.say(sending, detailOf(answer.getBody()) || text('broken', {}, this.element))
    this.draw()
  }

  private poll(): void {
    if (this.polling) return
    this.polling = window.setTimeout(() => void this.ask(), POLL)
  }

  private async ask(): Promise<void> {
    const asked = this.sendings.filter((sending) => sending.phase === 'checking').slice(0, POLL_AT_ONCE)
    if (asked.length) {
      const address = `${this.element.dataset.results}?uids=${asked.map((sending) => sending.uid).join(',')}`
      try {
        const answer = await fetch(address, { headers: { Accept: 'application/json' }, signal: this.stopping.signal })
        if (answer.ok) this.settle(asked, ((await answer.json()) as { uploads: UploadResult[] }).uploads)
      } catch {
        // Asked again below.
      }
    }
    this.polling = 0
    if (this.stopping.signal.aborted) return
    if (this.sendings.some((sending) => sending.phase === 'checking')) this.poll()
  }

  private settle(asked: Sending[], results: UploadResult[]): void {
    const byUid = new Map(results.map((result) => [result.uid, result]))
    let added = false
    for (const sending of asked) {
      const result = byUid.get(sending.uid)
      if (result?.state !== 'done') continue
      sending.phase = 'done'
      sending.result = result
      added ||= Boolean(result.counts.added || result.counts.caption)
      this.show(sending)
    }
    if (added) this.refresh()
    this.draw()
  }

  /** Show the new pictures, unless somebody has scrolled away or is selecting. */
  private refresh(): void {
    window.clearTimeout(this.refreshing)
    this.refreshing = window.setTimeout(() => {
      if (window.scrollY > 400 || document.querySelector('.tile-select:checked')) return
      const address = this.element.dataset.body ?? ''
      // Loaded already by the frame; asked for late, so that the rest of this module runs without a browser.
      void import('htmx.org').then(({ default: htmx }) => htmx.ajax('get', address, { target: '#dataset-body', swap: 'outerHTML' }))
    }, 800)
  }

  /** Draw the row of one file. */
  private show(sending: Sending): void {
    const row = sending.row ?? this.makeRow(sending)
    row.dataset.phase = sending.phase
    const status = row.querySelector<HTMLElement>('[data-status]')
    if (status) status.textContent = this.words(sending)
    row.querySelector('.progress')?.toggleAttribute('data-indeterminate', sending.phase === 'checking')
    row.querySelectorAll('button').forEach((button) => button.remove())
    if (sending.phase === 'broken') row.append(this.button('retry', () => this.again(sending)))
    if (sending.phase === 'sending') row.append(this.button('cancel', () => this.give(sending)))
    if (sending.phase === 'done' && sending.result) this.showResult(sending, row)
    this.draw()
  }

  private showResult(sending: Sending, row: HTMLElement): void {
    const notes = sending.result ? worthReading(sending.result) : []
    row.querySelector('.progress')?.remove()
    if (!notes.length) {
      window.setTimeout(() => row.remove(), GOOD_STAYS)
      return
    }
    const single = sending.result?.files.length === 1 && Object.keys(sending.result.counts).length === 1
    row.dataset.outcome = single && notes[0]?.outcome === 'refused' ? 'refused' : 'remark'
    if (single && notes[0]) {
      this.say(sending, `${notes[0].label}. ${notes[0].message}`)
      return
    }
    this.say(sending, this.summary(sending.result?.counts ?? {}).join(' · '))
    const list = document.createElement('ul')
    for (const words of grouped(notes)) {
      const line = document.createElement('li')
      line.textContent = words
      list.append(line)
    }
    row.append(list)
  }

  /** Say the outcomes as words: "20 added", "2 refused". */
  private summary(counts: Record<string, number>): string[] {
    const parts: string[] = []
    if (counts.added) parts.push(text('finished', { added: counts.added }, this.element))
    if (counts.caption) parts.push(text('captions', { n: counts.caption }, this.element))
    if (counts.duplicate) parts.push(text('already', { n: counts.duplicate }, this.element))
    if (counts.refused) parts.push(text('refused', { n: counts.refused }, this.element))
    return parts
  }

  private words(sending: Sending): string {
    switch (sending.phase) {
      case 'waiting':
        return text('waiting', {}, this.element)
      case 'sending':
        return text('sending', {}, this.element)
      case 'checking':
        return text('checking', {}, this.element)
      case 'done':
        return text('added', {}, this.element)
      case 'broken':
        return text('broken', {}, this.element)
    }
  }

  private say(sending: Sending, words: string): void {
    const status = sending.row?.querySelector<HTMLElement>('[data-status]')
    if (status) status.textContent = words
  }

  private makeRow(sending: Sending): HTMLLIElement {
    const row = document.createElement('li')
    const name = document.createElement('span')
    name.className = 'upload-name'
    name.textContent = sending.file.name
    name.title = sending.file.name
    const bar = document.createElement('div')
    bar.className = 'progress progress-thin'
    bar.append(document.createElement('span'))
    const status = document.createElement('span')
    status.className = 'upload-status'
    status.dataset.status = ''
    row.append(name, bar, status)
    sending.row = row
    this.find('[data-rows]').append(row)
    return row
  }

  private button(name: string, onClick: () => void): HTMLButtonElement {
    const button = document.createElement('button')
    button.type = 'button'
    button.className = 'btn btn-sm btn-ghost'
    button.textContent = text(name, {}, this.element)
    button.addEventListener('click', onClick)
    return button
  }

  private again(sending: Sending): void {
    sending.phase = 'waiting'
    this.show(sending)
    this.queue.add(() => this.send(sending))
  }

  private give(sending: Sending): void {
    void sending.upload?.abort(true)
    sending.row?.remove()
    this.sendings = this.sendings.filter((other) => other !== sending)
    this.draw()
  }

  /** Draw the numbers, at most once a frame. */
  private draw(): void {
    if (this.drawing) return
    this.drawing = requestAnimationFrame(() => {
      this.drawing = 0
      this.drawNow()
    })
  }

  private drawNow(): void {
    for (const sending of this.sendings) {
      const share = sending.file.size ? Math.round((100 * sending.sent) / sending.file.size) : 100
      sending.row?.querySelector<HTMLElement>('.progress')?.style.setProperty('--share', String(share))
    }
    const bytes = this.sendings.reduce((total, sending) => total + sending.file.size, 0)
    const sent = this.sendings.reduce((total, sending) => total + sending.sent, 0)
    const settled = this.sendings.filter((sending) => sending.phase === 'done' || sending.phase === 'broken').length
    const share = bytes ? Math.round((100 * sent) / bytes) : 100
    const bar = this.find('.upload-head .progress')
    bar.style.setProperty('--share', String(share))
    bar.setAttribute('aria-valuenow', String(share))
    const counts = sum(this.sendings.flatMap((sending) => (sending.result ? [sending.result] : [])))
    const parts = [text('progress', { done: settled, total: this.sendings.length }, this.element), ...this.summary(counts)]
    this.find('[data-summary]').textContent = parts.join(' · ')
    const finished = settled === this.sendings.length
    this.find('[data-close]').hidden = !finished
    this.find('[data-panel]').toggleAttribute('data-finished', finished)
  }

  private close(): void {
    this.sendings = []
    this.find('[data-rows]').replaceChildren()
    this.find('[data-panel]').hidden = true
  }
}

function hasFiles(event: DragEvent): boolean {
  return event.dataTransfer?.types.includes('Files') ?? false
}
