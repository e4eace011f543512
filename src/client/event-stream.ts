/**
 * Follows the event rings of nodes over WatchEvents and merges them into one iterator. Used by `admin.watchEvents()`.
 *
 * A broken stream is opened again and asks for the whole ring, because a node that restarted counts from 1 again; what
 * was told before is dropped here. The buffer is bounded: a reader that is too slow loses the oldest.
 */
import type { Clock, Random } from '../common/clock.ts'
import { adminMethods, type NodeEvent } from '../rpc/methods.ts'
import type { Channel } from '../rpc/transport.ts'
import type { ConnectionPool } from './connection.ts'
import { backoffMs } from './wait.ts'

/** Events that wait for the reader. */
export const eventBufferMax = 10_000
const reconnectBackoffMs = { min: 100, max: 1_000 } as const

interface EventPorts {
  readonly pool: ConnectionPool
  readonly clock: Clock
  readonly random: Random
}

/** Whom to listen to, now and after each change. */
export interface EventSource {
  addresses(): readonly string[]
  listen(onChange: () => void): () => void
}

export async function* watchEvents(
  ports: EventPorts,
  source: EventSource,
  signal?: AbortSignal,
): AsyncGenerator<NodeEvent, void, undefined> {
  const buffer: NodeEvent[] = []
  let wake = (): void => {}
  const onEvent = (event: NodeEvent): void => {
    if (buffer.length >= eventBufferMax) buffer.shift()
    buffer.push(event)
    wake()
  }
  const onAbort = (): void => wake()
  const { closed } = ports.pool
  const ends = signal ? [signal, closed] : [closed]
  const isOver = (): boolean => ends.some((end) => end.aborted)
  for (const end of ends) end.addEventListener('abort', onAbort, { once: true })
  const nodes = new Map<string, NodeEvents>()
  const addNodes = (): void => {
    if (isOver()) return
    for (const address of source.addresses())
      if (!nodes.has(address)) nodes.set(address, new NodeEvents(ports, address, onEvent))
  }
  const stopListening = source.listen(addNodes)
  addNodes()
  try {
    while (!isOver()) {
      const event = buffer.shift()
      if (event) yield event
      else {
        await new Promise<void>((resolve) => {
          wake = resolve
        })
      }
    }
  } finally {
    for (const end of ends) end.removeEventListener('abort', onAbort)
    stopListening()
    for (const node of nodes.values()) node.close()
  }
}

class NodeEvents {
  readonly #ports: EventPorts
  readonly #channel: Channel
  readonly #onEvent: (event: NodeEvent) => void
  #seenSequence = 0
  #seenWallMs = 0
  #rounds = 0
  #closed = false
  #stop: () => void = () => {}

  constructor(ports: EventPorts, address: string, onEvent: (event: NodeEvent) => void) {
    this.#ports = ports
    this.#channel = ports.pool.openChannel(address)
    this.#onEvent = onEvent
    this.#open()
  }

  close(): void {
    this.#closed = true
    this.#stop()
    this.#channel.close()
  }

  #open(): void {
    const sink = this.#channel.open(adminMethods.watchEvents, {
      onMessage: (event) => this.#onMessage(event),
      onClosed: () => this.#reopen(),
    })
    sink.write({ fromSequence: 0 })
    this.#stop = () => sink.cancel()
  }

  #onMessage(event: NodeEvent): void {
    this.#rounds = 0
    if (event.sequence <= this.#seenSequence && event.wallMs <= this.#seenWallMs) return
    this.#seenSequence = event.sequence
    this.#seenWallMs = event.wallMs
    this.#onEvent(event)
  }

  #reopen(): void {
    if (this.#closed) return
    const waitMs = backoffMs(this.#rounds++, reconnectBackoffMs, this.#ports.random.next())
    const cancel = this.#ports.clock.after(waitMs, () => this.#open(), { background: true })
    this.#stop = cancel
  }
}
