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
  /** No more messages are handed out. */
  revoked = false
  #idleWaiters: (() => void)[] = []

  constructor(
    ports: ReaderPorts,
    options: ReaderOptions & { readonly limits: FlowLimits; readonly committed: number | undefined },
  ) {
    allowManyListeners(this.abort.signal)
    this.queue = options.queue
    this.committed = options.committed
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

  next(): Delivery | null {
    return this.revoked ? null : this.process.next()
  }

  /** The offset to commit now, or null when there is nothing new. */
  toCommit(): number | null {
    const offset = this.process.committable
    return offset === null || offset === this.committed ? null : offset
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
