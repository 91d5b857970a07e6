/** Uploads of a picture set: drop anywhere, resume after a reload or a lost network, one result for each file. */

import * as tus from 'tus-js-client'
import { text } from './frame/text'
import { filesOf, Queue } from './upload-queue'
import { detailOf, sum, uidOf, type UploadResult } from './upload-results'
import { Rows, Sending } from './upload-rows'

const PARALLEL = 3
const CHUNK_BYTES = 8 * 1024 * 1024
const RETRY_DELAYS = [0, 1000, 3000, 5000, 10000]
const OFFLINE_RETRY = 5000
const POLL = 1000
const POLL_AT_ONCE = 50

export function mount(element: HTMLElement): () => void {
  const page = new UploadPanel(element)
  return () => page.stop()
}

class UploadPanel {
  private readonly stopping = new AbortController()
  private readonly queue = new Queue(PARALLEL)
  private readonly rows: Rows
  private sendings: Sending[] = []
  /** Files that are on their way without this page: there may be more than one answer names. */
  private following = false
  private polling = 0
  private drawing = 0
  private refreshing = 0
  private dragDepth = 0

  constructor(private readonly element: HTMLElement) {
    const signal = this.stopping.signal
    const input = this.find<HTMLInputElement>('input[type=file]')
    this.rows = new Rows(this.find('[data-rows]'), {
      again: (sending) => this.again(sending),
      give: (sending) => this.give(sending),
    })
    element.dataset.ready = ''
    input.addEventListener('change', () => this.take([...(input.files ?? [])], input), { signal })
    document.addEventListener('dragenter', (event) => this.drag(event, 1), { signal })
    document.addEventListener('dragleave', (event) => this.drag(event, -1), { signal })
    document.addEventListener('dragover', (event) => hasFiles(event) && event.preventDefault(), { signal })
    document.addEventListener('drop', (event) => void this.drop(event), { signal })
    document.addEventListener('paste', (event) => this.take([...(event.clipboardData?.files ?? [])]), { signal })
    window.addEventListener('beforeunload', (event) => this.active().length && event.preventDefault(), { signal })
    this.find('[data-close]').addEventListener('click', () => this.close(), { signal })
    if (Number(element.dataset.checking)) {
      this.following = true
      this.poll(0)
    }
    // Chosen before this page was ready to hear of it.
    this.take([...(input.files ?? [])], input)
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
    this.element.querySelector('[data-unfinished]')?.remove()
    this.element.querySelector('.drop-large')?.classList.remove('drop-large')
    this.element.querySelector('.drop-choose')?.classList.remove('btn-primary')
    for (const file of files) {
      const sending = new Sending(file.name, file.size, file)
      this.sendings.push(sending)
      this.queue.add(() => this.send(sending))
    }
    // The same file can be chosen again.
    if (input) input.value = ''
    this.find('[data-panel]').hidden = false
    this.draw()
  }

  private async send(sending: Sending): Promise<void> {
    const { file } = sending
    if (this.stopping.signal.aborted || sending.phase !== 'waiting' || !file) return
    sending.phase = 'sending'
    this.show(sending)
    await new Promise<void>((resolve) => {
      sending.finish = resolve
      const upload = new tus.Upload(file, {
        endpoint: this.element.dataset.endpoint ?? '',
        chunkSize: CHUNK_BYTES,
        retryDelays: RETRY_DELAYS,
        metadata: { filename: file.name, filetype: file.type },
        headers: { 'X-CSRFToken': this.find<HTMLInputElement>('[name=csrfmiddlewaretoken]').value, Accept: 'application/json' },
        removeFingerprintOnSuccess: true,
        onProgress: (sent) => {
          sending.sent = sent
          this.draw()
        },
        onSuccess: () => {
          if (sending.phase === 'stopped') return
          this.check(sending, uidOf(upload.url ?? ''))
          resolve()
        },
        onError: (error) => {
          if (sending.phase === 'stopped') return
          this.broken(sending, error)
          resolve()
        },
      })
      sending.upload = upload
      void this.start(sending, upload)
    })
  }

  private async start(sending: Sending, upload: tus.Upload): Promise<void> {
    const previous = await upload.findPreviousUploads().catch(() => [])
    // Stopped meanwhile.
    if (sending.phase !== 'sending') return
    const earlier = previous.find((found) => found.uploadUrl)
    if (earlier) {
      upload.resumeFromPreviousUpload(earlier)
      this.rows.say(sending, text('resumed', {}, this.element))
    }
    upload.start()
  }

  /** All bytes of a file are there: wait for what becomes of it. */
  private check(sending: Sending, uid: string): void {
    sending.phase = 'checking'
    sending.sent = sending.size
    sending.uid = uid
    this.show(sending)
    this.poll()
  }

  private broken(sending: Sending, error: Error | tus.DetailedError): void {
    const answer = 'originalResponse' in error ? error.originalResponse : null
    if (!answer || answer.getStatus() === 0) {
      // The network is gone: wait for it and go on from the last byte that arrived.
      sending.phase = 'waiting'
      this.show(sending)
      this.rows.say(sending, text('offline-wait', {}, this.element))
      window.setTimeout(() => this.queue.add(() => this.send(sending)), OFFLINE_RETRY)
      return
    }
    sending.phase = 'broken'
    this.show(sending)
    this.rows.say(sending, detailOf(answer.getBody()) || text('broken', {}, this.element))
  }

  private poll(pause = POLL): void {
    if (this.polling) return
    this.polling = window.setTimeout(() => void this.ask(), pause)
  }

  private async ask(): Promise<void> {
    const isOpen = (sending: Sending) => sending.phase === 'checking' || sending.stale
    const asked = this.sendings.filter(isOpen).slice(0, POLL_AT_ONCE)
    try {
      if (asked.length) this.settle(asked, await this.results(`?uids=${asked.map((sending) => sending.uid).join(',')}`))
      if (this.following && !this.sendings.some((sending) => sending.phase === 'checking')) await this.follow()
    } catch {
      // Asked again below.
    }
    this.polling = 0
    if (this.stopping.signal.aborted) return
    if (this.following || this.sendings.some(isOpen)) this.poll()
  }

  private async results(query: string): Promise<UploadResult[]> {
    const address = `${this.element.dataset.results}${query}`
    const answer = await fetch(address, { headers: { Accept: 'application/json' }, signal: this.stopping.signal })
    if (!answer.ok) throw new Error(`${address} answered ${answer.status}`)
    return ((await answer.json()) as { uploads: UploadResult[] }).uploads
  }

  /** Take up files that are being checked already: sent before this page was loaded, or by somebody else. */
  private async follow(): Promise<void> {
    const known = new Set(this.sendings.map((sending) => sending.uid))
    const found = (await this.results('')).filter((result) => !known.has(result.uid))
    this.following = found.length > 0
    for (const result of found) {
      const sending = new Sending(result.filename, result.size)
      this.sendings.push(sending)
      this.check(sending, result.uid)
    }
    if (found.length) return
    // The last ones were done before they could be followed.
    if (!this.sendings.length) this.find('[data-panel]').hidden = true
    this.refresh()
  }

  private settle(asked: Sending[], results: UploadResult[]): void {
    const byUid = new Map(results.map((result) => [result.uid, result]))
    let changed = false
    let arrived = false
    for (const sending of asked) {
      const result = byUid.get(sending.uid)
      sending.stale = false
      if (result?.state !== 'done') continue
      arrived ||= sending.phase === 'checking' && Boolean(result.counts.added || result.counts.duplicate)
      changed ||= Boolean(result.counts.added || result.counts.caption)
      sending.phase = 'done'
      sending.result = result
      this.show(sending)
    }
    if (changed) this.refresh()
    // A caption that waited may have found its picture now.
    if (arrived) for (const sending of this.sendings) sending.stale = Boolean(sending.result?.counts.waiting)
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

  private show(sending: Sending): void {
    this.rows.show(sending)
    this.draw()
  }

  private again(sending: Sending): void {
    sending.phase = 'waiting'
    this.show(sending)
    this.queue.add(() => this.send(sending))
  }

  private give(sending: Sending): void {
    sending.phase = 'stopped'
    // What cannot be deleted now expires by itself.
    void sending.upload?.abort(true).catch(() => undefined)
    sending.finish()
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
    this.rows.drawShares(this.sendings)
    const bytes = this.sendings.reduce((total, sending) => total + sending.size, 0)
    const sent = this.sendings.reduce((total, sending) => total + sending.sent, 0)
    const settled = this.sendings.filter((sending) => sending.phase === 'done' || sending.phase === 'broken').length
    const share = bytes ? Math.round((100 * sent) / bytes) : 100
    const bar = this.find('.upload-head .progress')
    bar.style.setProperty('--share', String(share))
    bar.setAttribute('aria-valuenow', String(share))
    const counts = sum(this.sendings.flatMap((sending) => (sending.result ? [sending.result] : [])))
    const parts = [text('progress', { done: settled, total: this.sendings.length }, this.element), ...this.rows.summary(counts)]
    this.find('[data-summary]').textContent = parts.join(' · ')
    const finished = settled === this.sendings.length
    this.find('[data-close]').hidden = !finished
    this.find('[data-panel]').toggleAttribute('data-finished', finished)
  }

  private close(): void {
    this.sendings = []
    this.rows.clear()
    this.find('[data-panel]').hidden = true
  }
}

function hasFiles(event: DragEvent): boolean {
  return event.dataTransfer?.types.includes('Files') ?? false
}
