import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { mount } from '../src/uploads'

interface Options {
  onSuccess(): void
  onError(error: Error): void
}

/** Uploads that end when a test says so, and like those of tus say nothing when they are stopped. */
const { FakeUpload, uploads } = vi.hoisted(() => {
  const uploads: InstanceType<typeof FakeUpload>[] = []
  class FakeUpload {
    url = `/uploads/upl_${uploads.length}/`
    started = false
    aborted = false

    constructor(
      readonly file: File,
      readonly options: Options,
    ) {
      uploads.push(this)
    }

    async findPreviousUploads(): Promise<[]> {
      return []
    }

    start(): void {
      this.started = true
    }

    async abort(forGood = false): Promise<void> {
      this.aborted = true
      if (forGood) throw new Error('The server does not answer')
    }
  }
  return { FakeUpload, uploads }
})
vi.mock('tus-js-client', () => ({ Upload: FakeUpload }))
vi.mock('htmx.org', () => ({ default: { ajax: (...asked: unknown[]) => refreshed(...asked) } }))

const refreshed = vi.fn()
const names = ['waiting', 'sending', 'checking', 'broken', 'retry', 'cancel', 'added', 'finished', 'captions', 'unmatched', 'already', 'refused']
let unmount = () => {}

/** Show the page of a picture set that has `checking` uploads under way; `answers` are the server's, in order. */
function open(checking = 0, answers: unknown[][] = []): string[] {
  const texts = names.map((name) => `data-text-${name}="${name}"`).join(' ')
  document.body.innerHTML = `<div id="uploads" data-results="/results/" data-checking="${checking}" data-text-progress="{done} of {total}" ${texts}>
    <input type="file"><input name="csrfmiddlewaretoken" value="t"><div data-veil hidden></div>
    <div data-panel${checking ? '' : ' hidden'}><div class="upload-head"><div class="progress"></div><p data-summary></p><button data-close></button></div><ul data-rows></ul></div></div>`
  const asked: string[] = []
  globalThis.fetch = (async (address: string) => {
    asked.push(address)
    return new Response(JSON.stringify({ uploads: answers.shift() ?? [] }))
  }) as typeof fetch
  unmount = mount(document.querySelector('#uploads') as HTMLElement)
  return asked
}

function drop(...files: string[]): void {
  const event = new Event('paste')
  Object.assign(event, { clipboardData: { files: files.map((name) => new File(['x'], name)) } })
  document.dispatchEvent(event)
}

const part = (row: Element, selector: string) => row.querySelector(selector)?.textContent ?? ''
const rows = () =>
  [...document.querySelectorAll('[data-rows] > li')].map((row) => `${part(row, '.upload-name')}: ${part(row, '[data-status]')}`)
const pass = (milliseconds = 0) => vi.advanceTimersByTimeAsync(milliseconds)
const upload = (uid: string, filename: string, more: object) => ({ uid, filename, size: 1, state: 'done', counts: {}, files: [], ...more })

beforeEach(() => {
  vi.useFakeTimers()
  uploads.length = 0
  refreshed.mockClear()
})
afterEach(() => {
  unmount()
  vi.useRealTimers()
})

describe('the list of uploads', () => {
  it('sends the next files when those before them are stopped', async () => {
    open()
    drop('1.png', '2.png', '3.png', '4.png', '5.png')
    await pass()
    expect(uploads.map((each) => each.file.name)).toEqual(['1.png', '2.png', '3.png'])
    for (const button of document.querySelectorAll<HTMLElement>('[data-rows] button')) button.click()
    await pass()
    expect(uploads.slice(0, 3).map((each) => each.aborted)).toEqual([true, true, true])
    expect(uploads.slice(3).map((each) => [each.file.name, each.started])).toEqual([['4.png', true], ['5.png', true]])
    expect(rows()).toEqual(['4.png: sending', '5.png: sending'])
  })

  it('does not begin a file that is stopped at once', async () => {
    open()
    drop('1.png')
    document.querySelector<HTMLElement>('[data-rows] button')?.click()
    await pass()
    expect([uploads[0]?.started, rows()]).toEqual([false, []])
  })

  it('follows what was being checked when the page came, to the last, and shows the new pictures', async () => {
    const working = (uid: string, filename: string) => upload(uid, filename, { state: 'processing' })
    const added = { counts: { added: 1 }, files: [{ filename: '', outcome: 'added', code: '', label: 'Added', message: '' }] }
    const asked = open(2, [
      [working('upl_a', 'a.png')],
      [working('upl_a', 'a.png')],
      [upload('upl_a', 'a.png', added)],
      [working('upl_b', 'b.png')],
      [upload('upl_b', 'b.png', added)],
      [],
    ])
    await pass()
    expect(rows()).toEqual(['a.png: checking'])
    await pass(2000)
    expect(rows()).toEqual(['a.png: Added', 'b.png: checking'])
    await pass(10_000)
    expect(asked).toEqual(['/results/', '/results/?uids=upl_a', '/results/?uids=upl_a', '/results/', '/results/?uids=upl_b', '/results/'])
    expect(rows()).toEqual([])
    expect(refreshed).toHaveBeenCalled()
  })

  it('hides itself when all was done before it could be followed', async () => {
    open(1, [[]])
    await pass(1000)
    expect((document.querySelector('[data-panel]') as HTMLElement).hidden).toBe(true)
    expect(refreshed).toHaveBeenCalledOnce()
  })

  it('says that a caption waits until its picture has come', async () => {
    const caption = (code: string, message: string) => ({ filename: 'a.txt', outcome: 'caption', code, label: 'Read', message })
    const asked = open(0, [
      [upload('upl_0', 'a.txt', { counts: { waiting: 1 }, files: [caption('caption_waiting', 'It waits.')] })],
      [upload('upl_1', 'a.png', { counts: { added: 1 } })],
      [upload('upl_0', 'a.txt', { counts: { caption: 1 }, files: [caption('caption_applied', 'Beside it.')] })],
    ])
    drop('a.txt')
    await pass()
    uploads[0]?.options.onSuccess()
    await pass(5000)
    expect(rows()).toEqual(['a.txt: Read. It waits.'])
    drop('a.png')
    await pass()
    uploads[1]?.options.onSuccess()
    await pass(5000)
    expect(asked).toEqual(['/results/?uids=upl_0', '/results/?uids=upl_1', '/results/?uids=upl_0'])
    expect(rows()).toEqual([])
  })
})
