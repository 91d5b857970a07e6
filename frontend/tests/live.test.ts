import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { backOff, cursorAt, type Frame, LiveConnection, type LiveEvent, receive } from '../src/live'

const event = (seq: number): LiveEvent => ({ seq, type: 'log', at: '', data: { n: seq } })
const frame = (...seqs: number[]): Frame => ({
  topic: 't',
  from: Math.min(...seqs),
  to: Math.max(...seqs),
  items: seqs.map(event),
})
const seqs = (events: LiveEvent[]): number[] => events.map((e) => e.seq)

describe('receive', () => {
  it('gives new events in order and drops what was applied', () => {
    const { cursor, ready, gap } = receive(cursorAt(3), frame(2, 3, 4, 5))
    expect([seqs(ready), cursor.applied, gap]).toEqual([[4, 5], 5, false])
  })

  it('gives nothing twice when a frame comes twice', () => {
    const first = receive(cursorAt(0), frame(1, 2))
    const again = receive(first.cursor, frame(1, 2))
    expect([seqs(again.ready), again.cursor.applied, again.gap]).toEqual([[], 2, false])
  })

  it('keeps early events and reports the gap, then gives all once it is filled', () => {
    const early = receive(cursorAt(1), frame(4, 5))
    expect([seqs(early.ready), early.cursor.applied, early.gap]).toEqual([[], 1, true])
    const filled = receive(early.cursor, frame(2, 3))
    expect([seqs(filled.ready), filled.cursor.applied, filled.gap]).toEqual([[2, 3, 4, 5], 5, false])
  })

  it('reports a gap when a heartbeat is ahead', () => {
    expect(receive(cursorAt(7), { topic: 't', head: 9 }).gap).toBe(true)
    expect(receive(cursorAt(9), { topic: 't', head: 9 }).gap).toBe(false)
  })

  it('follows a frame over events that the server thinned out', () => {
    const thinned = { topic: 't', from: 1, to: 6, items: [event(1), event(4)] }
    const { cursor, ready, gap } = receive(cursorAt(0), thinned)
    expect([seqs(ready), cursor.applied, gap]).toEqual([[1, 4], 6, false])
  })

  it('goes past events that are kept no longer, also where none is left', () => {
    const tidied = receive(cursorAt(3), { topic: 't', from: 4, to: 9, items: [event(7), event(9)] })
    expect([seqs(tidied.ready), tidied.cursor.applied, tidied.gap]).toEqual([[7, 9], 9, false])
    const none = receive(cursorAt(3), { topic: 't', from: 4, to: 9, items: [] })
    expect([seqs(none.ready), none.cursor.applied, none.gap]).toEqual([[], 9, false])
  })

  it('applies every event once in any order of frames', () => {
    let cursor = cursorAt(0)
    const applied: number[] = []
    const parts = [frame(3), frame(1), frame(5, 6), frame(2), frame(1, 2, 3), frame(4), frame(6)]
    for (const part of parts) {
      const received = receive(cursor, part)
      cursor = received.cursor
      applied.push(...seqs(received.ready))
    }
    expect(applied).toEqual([1, 2, 3, 4, 5, 6])
  })
})

describe('backOff', () => {
  it('doubles up to half a minute and never waits less than half of it', () => {
    expect([0, 1, 2, 10].map((n) => backOff(n, () => 1))).toEqual([500, 1000, 2000, 30_000])
    expect(backOff(10, () => 0)).toBe(15_000)
  })
})

class Socket extends EventTarget {
  static all: Socket[] = []
  readyState: number = WebSocket.CONNECTING
  sent: string[] = []
  constructor() {
    super()
    Socket.all.push(this)
  }
  send(text: string): void {
    this.sent.push(text)
  }
  accept(): void {
    this.readyState = WebSocket.OPEN
    this.dispatchEvent(new Event('open'))
  }
  say(data: Frame): void {
    this.dispatchEvent(new MessageEvent('message', { data: JSON.stringify(data) }))
  }
  close(): void {
    this.readyState = WebSocket.CLOSED
    this.dispatchEvent(new Event('close'))
  }
}

describe('LiveConnection', () => {
  let applied: number[]
  let health: string[]
  const start = (load?: (url: string) => Promise<{ items: LiveEvent[]; head?: number }>): LiveConnection =>
    new LiveConnection(
      [{ name: 't', after: 2, pollUrl: '/events', onEvent: (e) => applied.push(e.seq) }],
      {
        url: 'ws://test/ws/',
        open: () => new Socket() as unknown as WebSocket,
        random: () => 0,
        onHealth: (h) => health.push(h),
        ...(load ? { load } : {}),
      },
    )

  beforeEach(() => {
    vi.useFakeTimers()
    Socket.all = []
    applied = []
    health = []
  })
  afterEach(() => vi.useRealTimers())

  it('subscribes from what the page already shows', () => {
    const live = start()
    Socket.all[0]!.accept()
    expect(Socket.all[0]!.sent).toEqual(['{"subscribe":"t","after":2}'])
    live.close()
  })

  it('asks again from the last applied event after a reconnect', () => {
    const live = start()
    const first = Socket.all[0]!
    first.accept()
    first.say(frame(3, 4))
    first.close()
    vi.advanceTimersByTime(30_000)
    const second = Socket.all[1]!
    second.accept()
    expect(second.sent).toEqual(['{"subscribe":"t","after":4}'])
    second.say(frame(4, 5))
    expect(applied).toEqual([3, 4, 5])
    live.close()
  })

  it('asks again when an event is missing', () => {
    const live = start()
    const socket = Socket.all[0]!
    socket.accept()
    socket.say(frame(3))
    socket.say(frame(6))
    socket.say(frame(7))
    expect([applied, socket.sent.slice(1)]).toEqual([[3], ['{"subscribe":"t","after":3}']])
    socket.say(frame(4, 5))
    expect(applied).toEqual([3, 4, 5, 6, 7])
    live.close()
  })

  it('gives up a socket that has gone silent', () => {
    const live = start()
    Socket.all[0]!.accept()
    vi.advanceTimersByTime(34_000)
    expect(Socket.all).toHaveLength(1)
    vi.advanceTimersByTime(10_000)
    expect(Socket.all).toHaveLength(2)
    live.close()
  })

  it('polls when no socket ever opens, and applies each event once', async () => {
    const asked: string[] = []
    const live = start((url) => {
      asked.push(url)
      const after = Number(url.split('=')[1])
      return Promise.resolve({ items: after < 6 ? [event(after + 1), event(after + 2)] : [], head: 6 })
    })
    for (let n = 0; n < 3; n++) {
      Socket.all.at(-1)!.close()
      await vi.advanceTimersByTimeAsync(1000)
    }
    await vi.advanceTimersByTimeAsync(6000)
    expect(applied).toEqual([3, 4, 5, 6])
    expect(asked.slice(0, 3)).toEqual(['/events?after=2', '/events?after=4', '/events?after=6'])
    expect(health.at(-1)).toBe('polling')
    live.close()
  })

  it('stops when it is closed', () => {
    const live = start()
    live.close()
    vi.advanceTimersByTime(120_000)
    expect(Socket.all).toHaveLength(1)
  })
})
