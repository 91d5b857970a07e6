import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { fill, mount } from '../src/bell'

/** The side of the server: it keeps what was asked and speaks when a test says so. */
class FakeSocket extends EventTarget {
  static readonly OPEN = 1
  static last: FakeSocket
  readyState = 1
  sent: string[] = []

  constructor() {
    super()
    FakeSocket.last = this
  }

  send(text: string): void {
    this.sent.push(text)
  }

  close(): void {
    this.readyState = 3
  }

  say(frame: unknown): void {
    this.dispatchEvent(new MessageEvent('message', { data: JSON.stringify(frame) }))
  }
}

const DRAWN = '<span data-bell-count>2</span><div data-bell-lines><a href="/x">“Kael” is ready</a></div>'

function page(): HTMLElement {
  document.body.dataset.textClose = 'Close'
  document.body.innerHTML = `
    <div id="toasts"></div>
    <details id="bell" data-topic="inbox:usr_1" data-after="4" data-refresh="/notifications/bell/">
      <summary><span data-bell-count></span></summary><div data-bell-lines></div>
    </details>`
  return document.getElementById('bell') as HTMLElement
}

describe('bell', () => {
  beforeEach(() => {
    vi.useFakeTimers()
    vi.stubGlobal('WebSocket', FakeSocket)
    vi.stubGlobal('fetch', vi.fn(async () => new Response(DRAWN)))
  })
  afterEach(() => {
    vi.useRealTimers()
    vi.unstubAllGlobals()
  })

  it('asks for the list after the number the page was drawn with', () => {
    const undo = mount(page())
    FakeSocket.last.dispatchEvent(new Event('open'))
    expect(JSON.parse(FakeSocket.last.sent[0] ?? '')).toEqual({ subscribe: 'inbox:usr_1', after: 4 })
    undo()
  })

  it('says a new line once and draws number and lines', async () => {
    const bell = page()
    const undo = mount(bell)
    const item = { seq: 5, type: 'notification', at: '', data: { title: '“Kael” is ready', state: 'succeeded' } }
    for (let i = 0; i < 2; i++) FakeSocket.last.say({ topic: 'inbox:usr_1', from: 5, to: 5, items: [item] })
    await vi.advanceTimersByTimeAsync(400)
    expect(document.querySelectorAll('#toasts .toast')).toHaveLength(1)
    expect(document.querySelector('#toasts p')?.textContent).toBe('“Kael” is ready')
    expect(fetch).toHaveBeenCalledTimes(1)
    expect(bell.querySelector('[data-bell-count]')?.textContent).toBe('2')
    expect(bell.querySelector('[data-bell-lines] a')?.getAttribute('href')).toBe('/x')
    undo()
  })

  it('keeps what it has when the answer is something else', () => {
    const bell = page()
    fill(bell, DRAWN)
    fill(bell, '<h1>Log in</h1>')
    expect(bell.querySelector('[data-bell-count]')?.textContent).toBe('2')
  })
})
