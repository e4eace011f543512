/**
 * Hands messages of the held queues to the listener, queue by queue in turn, as many at a time as the user allows.
 * Owned by the push consumer.
 */
import { sleep } from '../../common/clock.ts'
import { attemptOf, type FailedMessages } from './failed-messages.ts'
import type { HeldQueue } from './held-queue.ts'
import type { HeldQueues } from './held-queues.ts'
import { callListener } from './listener-call.ts'
import type { Delivery } from './process-queue.ts'
import type { ConsumerPorts, Listener, PushSettings } from './push-settings.ts'

export class Dispatch {
  readonly #ports: ConsumerPorts
  readonly #settings: PushSettings
  readonly #queues: HeldQueues
  readonly #failed: FailedMessages
  readonly #signal: AbortSignal
  #listener: Listener | null = null
  #running = 0
  #planned = false

  /** `signal`: nothing is handed out once it is aborted. */
  constructor(
    ports: ConsumerPorts,
    settings: PushSettings,
    parts: { readonly queues: HeldQueues; readonly failed: FailedMessages },
    signal: AbortSignal,
  ) {
    this.#ports = ports
    this.#settings = settings
    this.#queues = parts.queues
    this.#failed = parts.failed
    this.#signal = signal
  }

  start(listener: Listener): void {
    this.#listener = listener
    this.plan()
  }

  /** Messages are handed out outside of the turn that brought them, so that a burst is one round. */
  plan(): void {
    if (this.#planned || this.#signal.aborted) return
    this.#planned = true
    this.#ports.clock.defer(() => {
      this.#planned = false
      this.#dispatch()
    })
  }

  #dispatch(): void {
    const wasFull = this.#queues.isFull
    for (const held of this.#queues.all) this.#queues.fill(held)
    if (wasFull) for (const held of this.#queues.all) held.reader.resume()
    const nowMs = this.#ports.clock.monotonicMs()
    let idleTurns = 0
    while (this.#running < this.#settings.concurrency && idleTurns < this.#queues.all.length) {
      const held = this.#queues.turn()
      if (!held) return
      const delivery = held.next(nowMs)
      if (delivery) void this.#deliver(held, delivery)
      idleTurns = delivery ? 0 : idleTurns + 1
    }
  }

  /** Waits until no listener of these queues runs, at most `drainTimeoutMs`; then tells them to stop. */
  async drain(queues: readonly HeldQueue[]): Promise<void> {
    const limit = new AbortController()
    const timeout = sleep(this.#ports.clock, this.#settings.drainTimeoutMs, limit.signal).catch(() => {})
    await Promise.race([Promise.all(queues.map((held) => held.idle())), timeout])
    limit.abort()
    for (const held of queues) held.abort.abort()
  }

  async #deliver(held: HeldQueue, delivery: Delivery): Promise<void> {
    const listener = this.#listener
    if (!listener) return
    this.#running++
    const { clock, status } = this.#ports
    const { consumeTimeoutMs: timeoutMs, ordered } = this.#settings
    const { queue, offset, messageId } = delivery.message
    const heard = await callListener(delivery.message, {
      clock,
      listener,
      attempt: attemptOf(delivery),
      signal: held.abort.signal,
      timeoutMs,
      // In order, the next one must not begin before this one has ended.
      abandons: !ordered,
      onTimeout: () => status.emit({ kind: 'listenerTimedOut', queue, offset, messageId, afterMs: timeoutMs }),
    })
    this.#running--
    if (heard.kind === 'consumed') held.process.finished(delivery)
    else {
      this.plan()
      await this.#failed.take(held, delivery, heard)
    }
    held.onListenerEnded()
    this.plan()
  }
}
