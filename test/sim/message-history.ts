/**
 * The truth about messages and group offsets, as the first replica that applied each entry told it: which message lies
 * at which offset of the sender's topic, where each queue begins, how far the group has committed. Fed by the judge;
 * everybody who reads is compared with it. Never asks a replica for more than the entry that was just applied changed.
 */
import type { ApplyResult, CommittedEntry, StateMachineApi } from '../../src/broker/contract.ts'
import { readBatchHeader, readRecords } from '../../src/message/batch.ts'

export interface MessageHistoryOptions {
  readonly topic: string
  readonly group: string
  check(condition: boolean, text: () => string): void
}

type Stored = Extract<ApplyResult, { readonly kind: 'stored' }>

export class MessageHistory {
  readonly #options: MessageHistoryOptions
  /** Committed messages of the topic, by queue and offset. */
  readonly queues: string[][] = []
  readonly #stored = new Set<string>()
  readonly #groupOffsets = new Map<number, number>()
  /** By queue: where it begins, by what was applied. */
  readonly #minOffsets: number[] = []
  /** By queue and offset: the entry of the message. */
  readonly #indexes: number[][] = []
  /** Entries before it are given up by the group. */
  trimmedBefore = 0
  trims = 0

  constructor(options: MessageHistoryOptions) {
    this.#options = options
  }

  isStored(value: string): boolean {
    return this.#stored.has(value)
  }

  /** Where the queue begins since the last trim. */
  minOffset(queue: number): number {
    return this.#minOffsets[queue] ?? 0
  }

  groupOffset(queue: number): number | undefined {
    return this.#groupOffsets.get(queue)
  }

  /** The first time that this entry is applied anywhere. */
  learn(machine: StateMachineApi, entry: CommittedEntry, result: ApplyResult): void {
    if (result.kind === 'stored' && !result.duplicate) this.#learnBatch(entry, result)
    if (result.kind === 'trimmed') this.#learnTrim(machine)
    if (result.kind === 'offsets') this.#learnOffsets(machine)
  }

  #learnBatch(entry: CommittedEntry, result: Stored): void {
    const { topic, check } = this.#options
    if (readBatchHeader(entry.body).topic !== topic) return
    this.queues[result.queue] ??= []
    this.#indexes[result.queue] ??= []
    const messages = this.queues[result.queue] as string[]
    const indexes = this.#indexes[result.queue] as number[]
    check(
      result.baseOffset === messages.length,
      () => `B2: queue ${result.queue} goes on at ${result.baseOffset} after ${messages.length}`,
    )
    for (const record of readRecords(entry.body, 0)) {
      const value = valueIn(record.body)
      check(!this.#stored.has(value), () => `B3: ${value} is stored twice, again at ${result.queue}/${messages.length}`)
      this.#stored.add(value)
      messages.push(value)
      indexes.push(entry.index)
    }
  }

  /** Queues give up no message that the log keeps, and keep none that it gives up. */
  #learnTrim(machine: StateMachineApi): void {
    const { check } = this.#options
    const { firstIndex } = machine.trimmed
    check(firstIndex >= this.trimmedBefore, () => `P1: what was given up comes back before ${firstIndex}`)
    if (firstIndex > this.trimmedBefore) this.trims++
    this.trimmedBefore = firstIndex
    const topic = machine.topic(this.#options.topic)
    for (let queue = 0; topic && queue < this.queues.length; queue++) {
      const min = machine.queueRange(topic.topicId, queue)?.min ?? 0
      this.#minOffsets[queue] = min
      const indexes = this.#indexes[queue] ?? []
      const [last, next] = [indexes[min - 1] ?? 0, indexes[min] ?? Number.POSITIVE_INFINITY]
      check(
        last < firstIndex && next >= firstIndex,
        () => `P1: queue ${queue} begins at ${min} with entry ${next} after ${last}, the log at ${firstIndex}`,
      )
    }
  }

  #learnOffsets(machine: StateMachineApi): void {
    const { check, group } = this.#options
    const topic = machine.topic(this.#options.topic)
    if (!topic) return
    for (let queue = 0; queue < this.queues.length; queue++) {
      const offset = machine.committedOffset(group, topic.topicId, queue)
      if (offset === undefined) continue
      const before = this.#groupOffsets.get(queue) ?? 0
      check(offset >= before, () => `B5: the group's offset of queue ${queue} fell from ${before} to ${offset}`)
      this.#groupOffsets.set(queue, offset)
    }
  }
}

/** What every body is filled up with. */
export const filling: Buffer = Buffer.alloc(64 * 1024, '.')

/** The part of a body that tells it from all others; the rest is filling. Of a damaged body nothing is equal. */
export function valueIn(body: Buffer): string {
  const end = body.indexOf(' ')
  const value = body.toString('latin1', 0, end)
  const isWhole = end >= 0 && body.compare(filling, 0, body.length - end - 1, end + 1) === 0
  return isWhole ? value : `${value} with a damaged body`
}
