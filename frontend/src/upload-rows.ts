/** The list of uploads on the page of a picture set: one row for each file, and what became of it. */

import type * as tus from 'tus-js-client'
import { text } from './frame/text'
import { grouped, worthReading, type UploadResult } from './upload-results'

/** Rows that went well leave the list after this long; what needs a word stays. */
const GOOD_STAYS = 1200

export type Phase = 'waiting' | 'sending' | 'checking' | 'done' | 'broken' | 'stopped'

/** One file of the list: sent by this page, or (without `file`) found on its way to the picture set. */
export class Sending {
  phase: Phase = 'waiting'
  sent = 0
  uid = ''
  result: UploadResult | null = null
  /** Its captions wait for pictures, and some have come since. */
  stale = false
  upload: tus.Upload | null = null
  /** Let the next file of the queue go. */
  finish: () => void = () => undefined
  row: HTMLLIElement | null = null

  constructor(
    readonly name: string,
    readonly size: number,
    readonly file: File | null = null,
  ) {}
}

export interface Actions {
  again(sending: Sending): void
  give(sending: Sending): void
}

export class Rows {
  constructor(
    private readonly list: HTMLElement,
    private readonly actions: Actions,
  ) {}

  /** Draw the row of one file. */
  show(sending: Sending): void {
    const row = sending.row ?? this.make(sending)
    row.dataset.phase = sending.phase
    this.say(sending, this.words(sending))
    row.querySelector('.progress')?.toggleAttribute('data-indeterminate', sending.phase === 'checking')
    row.querySelectorAll('button, ul').forEach((element) => element.remove())
    if (sending.phase === 'broken') row.append(this.button('retry', () => this.actions.again(sending)))
    if (sending.phase === 'sending') row.append(this.button('cancel', () => this.actions.give(sending)))
    if (sending.phase === 'done' && sending.result) this.showResult(sending, row, sending.result)
  }

  say(sending: Sending, words: string): void {
    const status = sending.row?.querySelector<HTMLElement>('[data-status]')
    if (status) status.textContent = words
  }

  drawShares(sendings: Sending[]): void {
    for (const { row, size, sent } of sendings) {
      const share = size ? Math.round((100 * sent) / size) : 100
      row?.querySelector<HTMLElement>('.progress')?.style.setProperty('--share', String(share))
    }
  }

  clear(): void {
    this.list.replaceChildren()
  }

  /** Say the outcomes as words: "20 added", "2 refused". */
  summary(counts: Record<string, number>): string[] {
    const parts: string[] = []
    if (counts.added) parts.push(text('finished', { added: counts.added }, this.list))
    if (counts.caption) parts.push(text('captions', { n: counts.caption }, this.list))
    if (counts.waiting) parts.push(text('unmatched', { n: counts.waiting }, this.list))
    if (counts.duplicate) parts.push(text('already', { n: counts.duplicate }, this.list))
    if (counts.refused) parts.push(text('refused', { n: counts.refused }, this.list))
    return parts
  }

  private showResult(sending: Sending, row: HTMLElement, result: UploadResult): void {
    const notes = worthReading(result)
    row.querySelector('.progress')?.remove()
    delete row.dataset.outcome
    if (!notes.length) {
      window.setTimeout(() => row.remove(), GOOD_STAYS)
      return
    }
    const single = result.files.length === 1 && Object.keys(result.counts).length === 1
    row.dataset.outcome = single && notes[0]?.outcome === 'refused' ? 'refused' : 'remark'
    if (single && notes[0]) {
      this.say(sending, `${notes[0].label}. ${notes[0].message}`)
      return
    }
    this.say(sending, this.summary(result.counts).join(' · '))
    const list = document.createElement('ul')
    for (const words of grouped(notes)) {
      const line = document.createElement('li')
      line.textContent = words
      list.append(line)
    }
    row.append(list)
  }

  private words(sending: Sending): string {
    if (sending.phase === 'stopped') return ''
    if (sending.phase !== 'done') return text(sending.phase, {}, this.list)
    const files = sending.result?.files ?? []
    return (files.length === 1 && files[0]?.label) || text('added', {}, this.list)
  }

  private make(sending: Sending): HTMLLIElement {
    const row = document.createElement('li')
    const name = document.createElement('span')
    name.className = 'upload-name'
    name.textContent = sending.name
    name.title = sending.name
    const bar = document.createElement('div')
    bar.className = 'progress progress-thin'
    bar.append(document.createElement('span'))
    const status = document.createElement('span')
    status.className = 'upload-status'
    status.dataset.status = ''
    row.append(name, bar, status)
    sending.row = row
    this.list.append(row)
    return row
  }

  private button(name: string, onClick: () => void): HTMLButtonElement {
    const button = document.createElement('button')
    button.type = 'button'
    button.className = 'btn btn-sm btn-ghost'
    button.textContent = text(name, {}, this.list)
    button.addEventListener('click', onClick)
    return button
  }
}
