/**
 * One queue that this member owns: its reader, its process queue, and the life between assignment and revocation. Used
 * by the push consumer, which hands out the messages and commits.
 */
import type { MessageQueue } from '../types.ts'
import { allowManyListeners } from '../wait.ts'
import type { Delivery, FlowLimits } from './process-queue.ts'
import { ProcessQueue } from './process-queue.ts'
import { QueueReader, type ReaderOptions, type ReaderPorts } from './queue-reader.ts'

export class HeldQueue {
  readonly queue: MessageQueue
  readonly reader: QueueReader
  readonly process: ProcessQueue
  /** Aborted when listeners of this queue are no longer waited for. */
  readonly abort: AbortController = new AbortController()
  /** Committed last; undefined when nothing ever was. */
  committed: number | undefined
  /** In order: one message at a time, and none while a failed one waits for its next try. */
  readonly ordered: boolean
  /** A failed message waits for its next try. */
  suspended = false
  /** Monotonic: nothing is handed out from then on. */
  leaseUntilMs: number
  /** What was held of this queue before, whose listener may still run. */
  readonly #before: HeldQueue | undefined
  /** No more messages are handed out. */
  revoked = false
  #idleWaiters: (() => void)[] = []

  constructor(
    ports: ReaderPorts,
    options: ReaderOptions & {
      readonly limits: FlowLimits
      readonly committed: number | undefined
      readonly ordered: boolean
      readonly before: HeldQueue | undefined
    },
  ) {
    allowManyListeners(this.abort.signal)
    this.queue = options.queue
    this.committed = options.committed
    this.ordered = options.ordered
    this.#before = options.before
    this.leaseUntilMs = options.ordered ? 0 : Number.POSITIVE_INFINITY
    this.process = new ProcessQueue(options.start === 'first' ? null : options.start, options.limits)
    this.reader = new QueueReader(ports, options)
  }

  /** Takes over from the reader as much as flow control lets in. Throws what stopped the reader. */
  fill(): void {
    while (!this.revoked && !this.process.full) {
      const batch = this.reader.take(fillStepMax)
      if (!batch) return
      this.process.add(batch)
    }
  }

  next(nowMs: number): Delivery | null {
    if (this.revoked || nowMs >= this.leaseUntilMs) return null
    return this.ordered && (this.suspended || this.isBusy) ? null : this.process.next()
  }

  /** A listener of this queue runs, also of what was held of it before. */
  get isBusy(): boolean {
    return this.process.running > 0 || (this.#before?.isBusy ?? false)
  }

  /** The offset to commit now, or null when there is nothing new. */
  toCommit(): number | null {
    const offset = this.process.committable
    return offset === null || offset === this.committed ? null : offset
  }

  /** Whether this committed offset is none that comes from here: not behind what was committed, nor within what is done. */
  isElsewhere(offset: number): boolean {
    const done = this.process.committable ?? this.committed
    if (this.committed === undefined) return offset !== done
    return offset < this.committed || offset > Math.max(this.committed, done ?? 0)
  }

  /** Calls back when no listener runs. */
  onListenerEnded(): void {
    if (this.process.running > 0) return
    for (const wake of this.#idleWaiters.splice(0)) wake()
  }

  idle(): Promise<void> {
    if (this.process.running === 0) return Promise.resolve()
    return new Promise((resolve) => this.#idleWaiters.push(resolve))
  }

  drop(): void {
    this.revoked = true
    this.reader.close()
    this.abort.abort()
  }
}

/** Messages taken over at once: flow control is judged in between. */
const fillStepMax = 64
