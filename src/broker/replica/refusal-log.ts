/**
 * Tells of refused peers once, not every half second: a wrong peer dials again and again. Owned by `broker.ts`.
 */
import type { Clock } from '../../common/clock.ts'
import type { Logger } from '../../common/logger.ts'
import type { EventSink } from '../events.ts'

const repeatMs = 30_000
/** Names come from outside: more different refusals than this at a time are not told apart. */
const refusalsMax = 256

export class RefusalLog {
  readonly #clock: Clock
  readonly #events: EventSink
  readonly #logger: Logger
  readonly #lastMs = new Map<string, number>()

  constructor(clock: Clock, events: EventSink, logger: Logger) {
    this.#clock = clock
    this.#events = events
    this.#logger = logger
  }

  /** A peer dialled us and was refused; `absent` when only because this node is not part of a group yet. */
  incoming(node: string, reason: string, absent: boolean): void {
    if (absent) this.#logger.debug('peer refused', { node, reason })
    else this.#tell(node, reason, 'incoming')
  }

  /** A peer refused us. */
  outgoing(node: string, reason: string): void {
    this.#tell(node, reason, 'outgoing')
  }

  #tell(node: string, reason: string, direction: string): void {
    const key = `${direction} ${node} ${reason}`
    const nowMs = this.#clock.monotonicMs()
    const last = this.#lastMs.get(key)
    if (last !== undefined && nowMs - last < repeatMs) return
    if (this.#lastMs.size >= refusalsMax) this.#lastMs.clear()
    this.#lastMs.set(key, nowMs)
    this.#logger.warn('peer refused', { node, reason, direction })
    this.#events.emit('peer_refused', 0, { node, reason, direction })
  }
}
