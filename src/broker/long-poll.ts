/**
 * Pulls that wait for messages (RocketMQ: PullRequestHoldService, but woken by apply on every replica). The pull
 * handler parks them, apply wakes them by (topic id, queue), the clock ends their wait.
 *
 * Wakes are collected for one turn: a run of applied batches answers a pull once. It never looks at messages.
 */
import type { Cancel, Clock } from '../common/clock.ts'

interface Parked {
  readonly topicId: number
  readonly queue: number
  readonly wake: () => void
  readonly cancelTimer: Cancel
}

export class LongPoll {
  readonly #clock: Clock
  readonly #parkedMax: number
  readonly #byTopic = new Map<number, Map<number, Set<Parked>>>()
  #count = 0
  /** Woken in this turn, called back at its end. */
  #woken = new Set<Parked>()

  constructor(options: { readonly clock: Clock; readonly parkedMax: number }) {
    this.#clock = options.clock
    this.#parkedMax = options.parkedMax
  }

  get count(): number {
    return this.#count
  }

  /**
   * Calls `wake` once: when the queue gets a message, or after `waitMs`. Returns the withdrawal, or null when as many
   * wait as may.
   */
  park(topicId: number, queue: number, waitMs: number, wake: () => void): Cancel | null {
    if (this.#count >= this.#parkedMax) return null
    // The stream of the waiting client keeps the process alive, not the wait.
    const cancelTimer = this.#clock.after(waitMs, () => this.#fire(parked), { background: true })
    const parked: Parked = { topicId, queue, wake, cancelTimer }
    this.#waitingFor(topicId, queue).add(parked)
    this.#count += 1
    return () => {
      this.#remove(parked)
    }
  }

  /** The queue has something new. */
  wake(topicId: number, queue: number): void {
    for (const parked of this.#byTopic.get(topicId)?.get(queue) ?? []) {
      if (this.#woken.size === 0) this.#clock.defer(() => this.#fireWoken())
      this.#woken.add(parked)
    }
  }

  /** The topic changed or is gone: all who wait for it look again. */
  wakeTopic(topicId: number): void {
    for (const queue of this.#byTopic.get(topicId)?.keys() ?? []) this.wake(topicId, queue)
  }

  /** Everything may have changed. */
  wakeAll(): void {
    for (const topicId of this.#byTopic.keys()) this.wakeTopic(topicId)
  }

  #waitingFor(topicId: number, queue: number): Set<Parked> {
    const queues = this.#byTopic.get(topicId) ?? new Map<number, Set<Parked>>()
    const waiting = queues.get(queue) ?? new Set<Parked>()
    this.#byTopic.set(topicId, queues.set(queue, waiting))
    return waiting
  }

  #fireWoken(): void {
    const woken = this.#woken
    this.#woken = new Set()
    for (const parked of woken) this.#fire(parked)
  }

  #fire(parked: Parked): void {
    // False: withdrawn or fired between the wake and the end of the turn.
    if (this.#remove(parked)) parked.wake()
  }

  #remove(parked: Parked): boolean {
    const queues = this.#byTopic.get(parked.topicId)
    const waiting = queues?.get(parked.queue)
    if (!queues || !waiting?.delete(parked)) return false
    parked.cancelTimer()
    this.#count -= 1
    if (waiting.size === 0) queues.delete(parked.queue)
    if (queues.size === 0) this.#byTopic.delete(parked.topicId)
    return true
  }
}
