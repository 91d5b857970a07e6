/**
 * Live events: every event of a topic exactly once and in order, whatever the network does.
 *
 * The page is rendered by the server with everything up to a sequence number; from there events come by WebSocket,
 * or, where none can be had, by polling. `receive` decides what is new; it is pure and has no clock and no socket.
 */

export interface LiveEvent {
  seq: number
  type: string
  at: string
  data: Record<string, unknown>
}

/** What the server sends: events `from`..`to` of a topic, or the number of the newest one (`head`). */
export interface Frame {
  topic: string
  from?: number
  to?: number
  items?: LiveEvent[]
  head?: number
  error?: string
}

/** How far a topic was applied, and what came too early. */
export interface Cursor {
  readonly applied: number
  readonly early: ReadonlyMap<number, LiveEvent>
}

export interface Received {
  cursor: Cursor
  /** New events in order, each exactly once over the life of the cursor. */
  ready: LiveEvent[]
  /** Something is missing: ask again from `cursor.applied`. */
  gap: boolean
}

export function cursorAt(applied: number): Cursor {
  return { applied, early: new Map() }
}

/** Take a frame in: return what can be applied now and whether something is missing. */
export function receive(cursor: Cursor, frame: Frame): Received {
  const items = [...(frame.items ?? [])].sort((a, b) => a.seq - b.seq)
  const early = new Map(cursor.early)
  for (const item of items) if (item.seq > cursor.applied) early.set(item.seq, item)
  let applied = cursor.applied
  const ready: LiveEvent[] = []
  const drain = (): void => {
    for (let next = early.get(applied + 1); next; next = early.get(applied + 1)) {
      early.delete(next.seq)
      ready.push(next)
      applied = next.seq
    }
  }
  drain()
  // A frame that begins where we are speaks for its whole range: what it leaves out was thinned out by the server.
  if (frame.from !== undefined && frame.to !== undefined && frame.from <= applied + 1 && frame.to > applied) {
    for (const seq of [...early.keys()].filter((seq) => seq <= (frame.to as number)).sort((a, b) => a - b)) {
      ready.push(early.get(seq) as LiveEvent)
      early.delete(seq)
    }
    applied = frame.to
    drain()
  }
  const newest = Math.max(frame.head ?? 0, frame.to ?? 0, ...early.keys())
  return { cursor: { applied, early }, ready, gap: newest > applied }
}

/** Milliseconds before attempt `n` (from 0): doubling, at most half a minute, spread so that clients do not march. */
export function backOff(attempt: number, random: () => number = Math.random): number {
  const most = Math.min(30_000, 500 * 2 ** attempt)
  return Math.round(most * (0.5 + random() / 2))
}

export type Health = 'live' | 'polling' | 'waiting'

export interface Topic {
  name: string
  after: number
  /** Address that answers `{items, head}` for `?after=`; used when no WebSocket can be had. */
  pollUrl?: string
  onEvent: (event: LiveEvent) => void
}

export interface LiveOptions {
  url?: string
  open?: (url: string) => WebSocket
  load?: (url: string) => Promise<{ items: LiveEvent[]; head?: number }>
  random?: () => number
  onHealth?: (health: Health) => void
}

const POLL_EVERY = 2000
/** So many sockets in a row that never opened: a proxy does not let them through. */
const SOCKETS_BEFORE_POLLING = 3
const SOCKET_AGAIN_AFTER = 60_000
/** The server sends a heartbeat every few seconds; a socket this silent is dead, whatever it says. */
const SILENCE = 35_000

/** Follow several topics over one socket until `close`. */
export class LiveConnection {
  private readonly topics = new Map<string, Topic>()
  private readonly cursors = new Map<string, Cursor>()
  /** From where each topic was asked for last on this socket: the same question is not asked twice. */
  private readonly asked = new Map<string, number>()
  private readonly options: Required<LiveOptions>
  private socket: WebSocket | null = null
  private attempt = 0
  private neverOpened = 0
  private timers = new Set<number>()
  private silence = 0
  private polling = false
  private closed = false

  constructor(topics: Topic[], options: LiveOptions = {}) {
    this.options = {
      url: options.url ?? `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/ws/`,
      open: options.open ?? ((url) => new WebSocket(url)),
      load: options.load ?? load,
      random: options.random ?? Math.random,
      onHealth: options.onHealth ?? (() => undefined),
    }
    for (const topic of topics) {
      this.topics.set(topic.name, topic)
      this.cursors.set(topic.name, cursorAt(topic.after))
    }
    if (topics.length) this.connect()
  }

  close(): void {
    this.closed = true
    for (const timer of this.timers) clearTimeout(timer)
    clearTimeout(this.silence)
    this.socket?.close()
  }

  private later(milliseconds: number, action: () => void): void {
    const timer = window.setTimeout(() => {
      this.timers.delete(timer)
      if (!this.closed) action()
    }, milliseconds)
    this.timers.add(timer)
  }

  private connect(): void {
    let opened = false
    let socket: WebSocket
    try {
      socket = this.options.open(this.options.url)
    } catch {
      this.lost(false)
      return
    }
    this.socket = socket
    socket.addEventListener('open', () => {
      opened = true
      this.neverOpened = 0
      this.polling = false
      this.options.onHealth('live')
      this.heard()
      this.asked.clear()
      for (const name of this.topics.keys()) this.ask(name)
    })
    socket.addEventListener('message', (message) => {
      this.attempt = 0
      this.heard()
      this.take(JSON.parse(String(message.data)) as Frame)
    })
    socket.addEventListener('close', () => {
      if (this.socket !== socket) return
      this.socket = null
      clearTimeout(this.silence)
      if (!this.closed) this.lost(opened)
    })
  }

  private heard(): void {
    clearTimeout(this.silence)
    this.silence = window.setTimeout(() => this.socket?.close(), SILENCE)
  }

  private ask(name: string): void {
    const after = this.cursors.get(name)?.applied ?? 0
    if (this.socket?.readyState !== WebSocket.OPEN || this.asked.get(name) === after) return
    this.asked.set(name, after)
    this.socket.send(JSON.stringify({ subscribe: name, after }))
  }

  private take(frame: Frame): void {
    const topic = this.topics.get(frame.topic)
    const cursor = this.cursors.get(frame.topic)
    if (!topic || !cursor) return
    const received = receive(cursor, frame)
    this.cursors.set(frame.topic, received.cursor)
    for (const event of received.ready) topic.onEvent(event)
    if (received.gap) this.ask(frame.topic)
  }

  private lost(wasOpen: boolean): void {
    if (!wasOpen) this.neverOpened += 1
    if (this.neverOpened >= SOCKETS_BEFORE_POLLING) {
      this.later(SOCKET_AGAIN_AFTER, () => this.connect())
      this.startPolling()
      return
    }
    this.options.onHealth('waiting')
    this.later(backOff(this.attempt++, this.options.random), () => this.connect())
  }

  private startPolling(): void {
    if (this.polling) return
    this.polling = true
    this.options.onHealth('polling')
    void this.poll()
  }

  private async poll(): Promise<void> {
    for (const topic of this.topics.values()) {
      if (!topic.pollUrl || !this.polling || this.closed) continue
      const after = this.cursors.get(topic.name)?.applied ?? 0
      try {
        const { items, head } = await this.options.load(`${topic.pollUrl}?after=${after}`)
        // An answer holds the oldest events first; where it is short of the head the next poll goes on.
        this.options.onHealth('polling')
        // It speaks for all of its range, also where events are kept no longer.
        const to = items.at(-1)?.seq ?? head
        this.take({ topic: topic.name, items, ...(to !== undefined ? { from: after + 1, to } : {}) })
      } catch {
        this.options.onHealth('waiting')
      }
    }
    if (this.polling) this.later(POLL_EVERY, () => void this.poll())
  }
}

async function load(url: string): Promise<{ items: LiveEvent[]; head?: number }> {
  const answer = await fetch(url, { headers: { Accept: 'application/json' } })
  if (!answer.ok) throw new Error(`${answer.status}`)
  return (await answer.json()) as { items: LiveEvent[]; head?: number }
}
