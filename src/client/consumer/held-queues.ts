/**
 * The queues that a push consumer holds, in the order in which they have their turn: taken up, begun anew when their
 * reader stopped or their topic is another one, let go. Who owns which queue is decided elsewhere.
 */
import { sleep } from '../../common/clock.ts'
import { type LedgerError, toLedgerError } from '../../common/errors.ts'
import type { MessageQueue } from '../types.ts'
import { HeldQueue } from './held-queue.ts'
import { queueKey } from './offsets.ts'
import { type ConsumerPorts, type PushSettings, troubleRetryMs } from './push-settings.ts'
import type { ReadBudget, ReaderOptions } from './queue-reader.ts'

/** Read ahead per queue beyond what flow control holds. */
const readAheadBytes = 1024 * 1024
const readAheadBytesMax = 32 * 1024 * 1024
const longPollMs = 15_000

export interface HeldQueuesOptions {
  readonly group: string
  readonly settings: PushSettings
  /** Another queue is held from now on. */
  readonly onHeld: () => void
  /** There may be something to hand out. */
  readonly onReady: () => void
  /** The next assignment is wanted now. */
  readonly beat: (brokerGroup: string) => void
}

export class HeldQueues {
  readonly #ports: ConsumerPorts
  readonly #options: HeldQueuesOptions
  readonly #budget: ReadBudget = { bytes: 0, bytesMax: readAheadBytesMax }
  readonly #held = new Map<string, HeldQueue>()
  /** Let go while a listener ran: in order, nothing of the queue begins before it has ended. */
  readonly #ending = new Map<string, HeldQueue>()
  #turns: HeldQueue[] = []

  constructor(ports: ConsumerPorts, options: HeldQueuesOptions) {
    this.#ports = ports
    this.#options = options
  }

  /** The next one to be looked at first. */
  get all(): readonly HeldQueue[] {
    return this.#turns
  }

  of(brokerGroup: string): readonly HeldQueue[] {
    return this.#turns.filter((held) => held.queue.group === brokerGroup)
  }

  has(queue: MessageQueue): boolean {
    return this.#held.has(queueKey(queue))
  }

  /** The one whose turn it is; it comes last from now on. */
  turn(): HeldQueue | undefined {
    const held = this.#turns.shift()
    if (held) this.#turns.push(held)
    return held
  }

  /** All readers hold as many bytes as they may. */
  get isFull(): boolean {
    return this.#budget.bytes >= this.#budget.bytesMax
  }

  hold(queue: MessageQueue, start: Pick<ReaderOptions, 'start' | 'topicId'>, committed: number | undefined): void {
    const held: HeldQueue = new HeldQueue(this.#ports, {
      queue,
      consumerGroup: this.#options.group,
      readFrom: this.#options.settings.readFrom,
      pullBytes: readAheadBytes,
      bytesMax: readAheadBytes,
      longPollMs,
      budget: this.#budget,
      limits: this.#options.settings.limits,
      ...start,
      committed,
      ordered: this.#options.settings.ordered,
      before: this.#endingOf(queue),
      onReady: () => this.#options.onReady(),
      onTopicChanged: () => this.startOver(held),
    })
    this.#held.set(queueKey(queue), held)
    this.#turns.push(held)
    held.reader.start()
    this.#options.onHeld()
  }

  fill(held: HeldQueue): void {
    try {
      held.fill()
    } catch (cause) {
      const reason = toLedgerError(cause)
      const where = queueKey(held.queue)
      this.#ports.status.emit({ kind: 'stalled', what: 'consumer', where, sinceMs: 0, reason })
      this.#recover(held, reason)
    }
  }

  /**
   * A reader that stopped. Below the minimum, the messages are gone by retention: go on at the first that is left,
   * loudly. Beyond the end, which a leader says only with its quorum, the group was recovered by force and counts on
   * from less: what comes now has offsets that were seen before, so go on at what the group has committed. Anything else
   * is tried again from where it stopped.
   */
  #recover(held: HeldQueue, reason: LedgerError): void {
    const at = held.reader.position
    const isMoved = reason.code === 'PULL_OFFSET_MOVED'
    const isGone = isMoved && at < (reason.facts.minOffset ?? 0)
    this.#ports.logger.error('reading a queue stopped', { ...held.queue, offset: at, error: reason.message })
    if (isMoved && !isGone) {
      this.retake(held)
      return
    }
    held.reader.pause()
    held.reader.seek(at)
    const goOn = (): void => {
      if (held.revoked) return
      if (isGone) this.#replace(held, held.committed)
      else held.reader.resume()
    }
    sleep(this.#ports.clock, troubleRetryMs, held.abort.signal).then(goOn, () => {})
  }

  /** Begins the queue anew where the group is: the next assignment finds that it is not held. */
  retake(held: HeldQueue): void {
    this.letGo(held)
    this.#options.beat(held.queue.group)
  }

  letGo(held: HeldQueue): void {
    held.drop()
    const key = queueKey(held.queue)
    if (this.#held.get(key) === held) this.#held.delete(key)
    if (held.ordered && held.isBusy) this.#ending.set(key, held)
    this.#turns = this.#turns.filter((other) => other !== held)
  }

  /**
   * Its topic is another one. In a queue that is being given up nothing is begun anew, and what it holds must not be
   * committed on the way out: by then that may be done in the generation that owns the new topic.
   */
  startOver(held: HeldQueue): void {
    if (held.revoked) this.letGo(held)
    else this.#replace(held, undefined)
  }

  /** The group was sent to another position. What is held of the queue no longer counts. */
  moveTo(held: HeldQueue, offset: number): void {
    const { topicId } = held.reader
    this.letGo(held)
    this.hold(held.queue, { start: offset, topicId }, offset)
  }

  clear(): void {
    for (const held of this.#turns.splice(0)) held.drop()
    this.#held.clear()
  }

  #endingOf(queue: MessageQueue): HeldQueue | undefined {
    const key = queueKey(queue)
    if (!this.#ending.get(key)?.isBusy) this.#ending.delete(key)
    return this.#ending.get(key)
  }

  /** Begins the queue anew at its first message. */
  #replace(held: HeldQueue, committed: number | undefined): void {
    this.letGo(held)
    this.hold(held.queue, { start: 'first' }, committed)
  }
}
