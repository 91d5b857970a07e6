import { describe, expect, it } from 'vitest'
import { direction, Saver } from '../src/caption'
import { mount as mountGrid, selectBetween, shorten } from '../src/dataset'
import { filesOf, Queue } from '../src/upload-queue'
import { detailOf, grouped, sum, uidOf, worthReading, type FileResult, type UploadResult } from '../src/upload-results'

function result(counts: Record<string, number>, files: UploadResult['files'] = []): UploadResult {
  return { uid: 'upl_1', filename: 'a.png', size: 1, state: 'done', counts, files }
}

function file(filename: string, outcome: string, label: string, message: string, code = ''): FileResult {
  return { filename, outcome, code, label, message }
}

describe('uploads', () => {
  it('runs three at once, in order, and goes on after one has failed', async () => {
    const queue = new Queue(3)
    const started: number[] = []
    const release: Array<() => void> = []
    for (let number = 0; number < 5; number += 1) {
      queue.add(() => {
        started.push(number)
        return new Promise((resolve) => release.push(resolve))
      })
    }
    expect(started).toEqual([0, 1, 2])
    release[1]?.()
    await new Promise((resolve) => setTimeout(resolve))
    expect(started).toEqual([0, 1, 2, 3])
  })

  it('adds up what became of all files', () => {
    expect(sum([result({ added: 2, refused: 1 }), result({ added: 1, caption: 4 })])).toEqual({ added: 3, refused: 1, caption: 4 })
  })

  it('shows what was refused, has a remark or waits, and leaves the rest alone', () => {
    const refused = file('a', 'refused', 'Refused', 'Damaged.', 'damaged')
    const small = file('b', 'added', 'Added', 'Small.', 'small')
    const plain = file('c', 'added', 'Added', '')
    const applied = file('d.txt', 'caption', 'Caption read', 'Beside its picture.', 'caption_applied')
    const waiting = file('e.txt', 'caption', 'Caption read', 'It waits.', 'caption_waiting')
    expect(worthReading(result({}, [refused, small, plain, applied, waiting]))).toEqual([refused, small, waiting])
  })

  it('says each reason once, refusals first, with the names of five files', () => {
    const small = Array.from({ length: 7 }, (_, n) => file(`${n}.png`, 'added', 'Added', 'Small.'))
    const bad = file('x.png', 'refused', 'Refused', 'Damaged.')
    expect(grouped([...small, bad])).toEqual(['Damaged. x.png', 'Small. 0.png, 1.png, 2.png, 3.png, 4.png +2'])
  })

  it('finds the uid in an address', () => {
    expect(uidOf('/t/atelier/uploads/upl_01abc/')).toBe('upl_01abc')
  })

  it('reads the sentence of a problem document, and nothing from a page', () => {
    expect(detailOf('{"detail": "Too large."}')).toBe('Too large.')
    expect(detailOf('<!doctype html>')).toBe('')
  })

  it('takes files from dropped folders, without hidden ones', async () => {
    const file = (name: string) => ({ isFile: true, name, file: (done: (file: File) => void) => done(new File(['x'], name)) })
    const folder = (name: string, children: unknown[]) => {
      const rest = [children, []]
      return { isFile: false, name, createReader: () => ({ readEntries: (done: (found: unknown[]) => void) => done(rest.shift() ?? []) }) }
    }
    const entries = [file('a.png'), folder('set', [file('b.png'), file('.DS_Store'), folder('deep', [file('c.txt')])])]
    const transfer = { items: entries.map((entry) => ({ webkitGetAsEntry: () => entry })), files: [] }
    const found = await filesOf(transfer as unknown as DataTransfer)
    expect(found.map((each) => each.name)).toEqual(['a.png', 'b.png', 'c.txt'])
  })
})

describe('selection', () => {
  it('says how many are selected on the bar and in the question before a deletion', () => {
    document.body.innerHTML = `<form data-total="1000" data-text-selected="{n} selected"><input type="checkbox" data-everything>
      <b data-count></b><dialog><p data-count></p></dialog></form>`
    const form = document.querySelector('form') as HTMLFormElement
    const unmount = mountGrid(form)
    form.querySelector('input')?.click()
    expect([...form.querySelectorAll('[data-count]')].map((count) => count.textContent)).toEqual(['1000 selected', '1000 selected'])
    unmount()
  })

  it('selects everything between two boxes, in both directions', () => {
    const all = Array.from({ length: 6 }, () => Object.assign(document.createElement('input'), { type: 'checkbox' }))
    const at = (index: number) => all[index] as HTMLInputElement
    at(1).checked = true
    selectBetween(all, at(4), at(1))
    expect(all.map((box) => box.checked)).toEqual([false, true, true, true, true, false])
  })

  it('sends thousands of boxes as one field', () => {
    const data = new FormData()
    data.append('action', 'delete')
    for (let number = 0; number < 3000; number += 1) data.append('items', `img_${number}`)
    shorten(data)
    expect([...data.keys()]).toEqual(['action', 'uids'])
    expect(String(data.get('uids')).split(',')).toHaveLength(3000)
  })
})

describe('caption editor', () => {
  it('goes to the neighbours by keyboard, but not while somebody composes a character', () => {
    expect(direction(new KeyboardEvent('keydown', { key: 'ArrowRight', altKey: true }))).toBe('next')
    expect(direction(new KeyboardEvent('keydown', { key: 'ArrowLeft', altKey: true }))).toBe('previous')
    expect(direction(new KeyboardEvent('keydown', { key: 'Enter', ctrlKey: true }))).toBe('next')
    expect(direction(new KeyboardEvent('keydown', { key: 'Enter' }))).toBeNull()
    expect(direction(new KeyboardEvent('keydown', { key: 'Enter', ctrlKey: true, isComposing: true }))).toBeNull()
  })

  it('saves the newest text, one request at a time', async () => {
    const editor = document.createElement('div')
    editor.dataset.save = '/save/'
    for (const name of ['saved', 'saving', 'not-saved']) editor.setAttribute(`data-text-${name}`, name)
    editor.innerHTML = '<form><span data-status></span><input name="csrfmiddlewaretoken" value="t"><textarea>old</textarea></form>'
    const area = editor.querySelector('textarea') as HTMLTextAreaElement
    const sent: string[] = []
    let open = 0
    globalThis.fetch = (async (_address: string, options: RequestInit) => {
      open += 1
      expect(open).toBe(1)
      await new Promise((resolve) => setTimeout(resolve, 5))
      sent.push(String(new URLSearchParams(options.body as URLSearchParams).get('caption')))
      open -= 1
      return new Response(null, { status: 204 })
    }) as typeof fetch
    const saver = new Saver(editor, area)
    await saver.now()
    area.value = 'one'
    const first = saver.now()
    area.value = 'two'
    await Promise.all([first, saver.now()])
    expect(sent).toEqual(['one', 'two'])
    expect(editor.querySelector('[data-status]')?.textContent).toBe('saved')
  })
})
