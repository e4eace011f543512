/**
 * Messages that consumers of a group received one by one and have not acknowledged (RocketMQ: POP checkpoints), with
 * how far each queue was given out. Held whole; how many one queue of a group may have is a limit.
 *
 * A message is with one receiver at a time: until its invisible time is over by log time, or it was settled. Whoever
 * received it before has a receipt that is stale. What lies before the cursor and is not here was consumed.
 */
import type { StateOperation, StateStoreApi } from '../../../store/index.ts'
import { invariant } from '../../common/assert.ts'
import { messages, type Schema, schema, text, uint } from '../../common/protobuf-schema.ts'
import type { QueueId } from './group-commands.ts'
import { groupMessageKey, groupQueueInKey, groupQueueKey, rowKinds } from './keys.ts'
import { type StateTable, scanRows } from './pending-changes.ts'
import type { Receive, SettledMessage } from './receive-commands.ts'
import { findOutOfOrder, superseded, unseenOf, withAttempt } from './receive-rules.ts'
import { type Refusal, refusal } from './result.ts'

export interface ReceivedMessage {
  readonly offset: number
  /** Deliveries so far, 1 with the first; 0: it waits for others of its message group. */
  readonly attempt: number
  /** Entry by which it was received last: its receipt. */
  readonly receipt: number
  /** Log time from which it may be received again. */
  readonly visibleAt: number
  /** Hash of its message group, 0 without one. */
  readonly orderHash: number
}

export interface ReceiveAttempt {
  readonly attemptId: string
  readonly receipt: number
}

export interface ReceiveQueue extends QueueId {
  readonly group: string
  /** Everything before it was given out, or did not match. */
  readonly cursor: number
  /** The newest receives that named themselves, oldest first: the same one asked again gets the same messages. */
  readonly attempts: readonly ReceiveAttempt[]
  /** By offset, ascending. */
  readonly messages: ReadonlyMap<number, ReceivedMessage>
  /** Grows with every change of a message, in this process: whoever has looked need not look again. */
  readonly changes: number
}

interface Queue extends ReceiveQueue {
  cursor: number
  attempts: readonly ReceiveAttempt[]
  readonly messages: Map<number, ReceivedMessage>
  changes: number
}

interface CursorRow {
  readonly cursor: number
  readonly attempts: readonly ReceiveAttempt[]
}

/** Given out and not settled, of one queue to one group. */
export const receivedPerQueueMax = 4096

const messageSchema: Schema<Omit<ReceivedMessage, 'offset'>> = schema<Omit<ReceivedMessage, 'offset'>>({
  attempt: uint(1),
  receipt: uint(2),
  visibleAt: uint(3),
  orderHash: uint(4),
})
const attemptSchema: Schema<ReceiveAttempt> = schema<ReceiveAttempt>({ attemptId: text(1), receipt: uint(2) })
const cursorSchema: Schema<CursorRow> = schema<CursorRow>({
  cursor: uint(1),
  attempts: messages(2, attemptSchema),
})

export class ReceivedTable implements StateTable {
  readonly #queues = new Map<string, Queue>()
  readonly #cursorDirty = new Map<string, Buffer>()
  readonly #messageDirty = new Map<string, { readonly key: Buffer; readonly queue: string; readonly offset: number }>()

  get dirtyCount(): number {
    return this.#cursorDirty.size + this.#messageDirty.size
  }

  async load(store: StateStoreApi): Promise<void> {
    for await (const [key, value] of scanRows(store, rowKinds.receiveCursor)) {
      const { group, topicId, queue } = groupQueueInKey(key)
      const messages = new Map<number, ReceivedMessage>()
      const { cursor, attempts } = cursorSchema.decode(value)
      const loaded: Queue = { group, topicId, queue, cursor, attempts, messages, changes: 0 }
      this.#queues.set(nameOf(group, loaded), loaded)
    }
    for await (const [key, value] of scanRows(store, rowKinds.received)) {
      const { group, topicId, queue, offset } = groupQueueInKey(key)
      const known = this.#queues.get(nameOf(group, { topicId, queue }))
      invariant(known !== undefined, 'B5: a received message belongs to a queue that was received from')
      known.messages.set(offset, { ...messageSchema.decode(value), offset })
    }
  }

  find(group: string, queue: QueueId): ReceiveQueue | undefined {
    return this.#queues.get(nameOf(group, queue))
  }

  /** Queues that this group has received from. */
  ofGroup(group: string): readonly ReceiveQueue[] {
    return [...this.#queues.values()].filter((queue) => queue.group === group)
  }

  has(group: string): boolean {
    return this.ofGroup(group).length > 0
  }

  /** Lowest offset that is not consumed: what the group has committed in this queue. */
  floor(queue: ReceiveQueue): number {
    // They come in ascending order, and a message keeps its place when it is received again.
    for (const offset of queue.messages.keys()) return offset
    return queue.cursor
  }

  /** Why these messages may not be given out now, or null. `max`: the end of the queue. */
  findProblem(command: Receive, start: number, max: number, logTime: number): Refusal | null {
    const { again, cursor, ordered } = command
    const unseen = unseenOf(command)
    const known = this.find(command.group, command)
    const from = known?.cursor ?? start
    if (cursor < from || cursor > max) return superseded(`the cursor is ${from} of ${max}, not before ${cursor}`)
    if ((known?.messages.size ?? 0) + unseen.length > receivedPerQueueMax)
      return refusal('FLOW_CONTROL', `the group has ${receivedPerQueueMax} messages of this queue not acknowledged`)
    let before = from - 1
    for (const { offset } of unseen) {
      if (offset <= before || offset >= cursor) return superseded(`offset ${offset} was given out meanwhile`)
      before = offset
    }
    before = -1
    for (const offset of again) {
      const message = known?.messages.get(offset)
      if (offset <= before || !message || message.visibleAt > logTime)
        return superseded(`offset ${offset} is with somebody`)
      before = offset
    }
    return ordered ? findOutOfOrder(command, known, logTime) : null
  }

  /** It was found to be right. Deliveries of each message by now, `again` first. */
  receive(command: Receive, start: number, entry: { index: number; storeTime: number }): readonly ReceivedMessage[] {
    const queue = this.#ensure(command.group, command, start)
    const visibleAt = entry.storeTime + command.invisibleMs
    const given = [
      ...command.again.map((offset) => ({ offset, orderHash: queue.messages.get(offset)?.orderHash ?? 0 })),
      ...command.first,
    ].map(({ offset, orderHash }) => {
      const attempt = (queue.messages.get(offset)?.attempt ?? 0) + 1
      return { offset, attempt, receipt: entry.index, visibleAt, orderHash }
    })
    const waiting = command.waiting.map((message) => {
      return { ...message, attempt: 0, receipt: entry.index, visibleAt: entry.storeTime }
    })
    const changed = [...given, ...waiting]
    if (waiting.length > 0) changed.sort((a, b) => a.offset - b.offset)
    for (const message of changed) this.#put(queue, message)
    queue.cursor = command.cursor
    if (command.attemptId !== '') queue.attempts = withAttempt(queue.attempts, command.attemptId, entry.index)
    this.#noteCursor(queue)
    return given
  }

  /** False: the receipt is stale, or the message settled before. */
  settle(group: string, settled: SettledMessage, entry: { index: number; storeTime: number }): boolean {
    const queue = this.#queues.get(nameOf(group, settled))
    const message = queue?.messages.get(settled.offset)
    // Nobody has a receipt for what only waits.
    if (!queue || !message || message.receipt !== settled.receipt || message.attempt === 0) return false
    if (settled.invisibleMs === null) this.#remove(queue, settled.offset)
    else {
      const visibleAt = entry.storeTime + settled.invisibleMs
      // RocketMQ: a new handle for the new time; the one before is stale.
      this.#put(queue, { ...message, receipt: entry.index, visibleAt })
    }
    return true
  }

  /** Consumed up to there by somebody who commits offsets: what lies before it does not come again. */
  committed(group: string, at: QueueId, offset: number): void {
    const queue = this.#queues.get(nameOf(group, at))
    if (queue) this.#skip(queue, offset)
  }

  /** Nobody can receive what lies before the minimum of its queue. */
  trimmed(minimumOf: (queue: QueueId) => number): void {
    for (const known of this.#queues.values()) this.#skip(known, minimumOf(known))
  }

  /** The group goes on from there; receipts for this queue are stale. */
  seek(group: string, at: QueueId, offset: number): void {
    const queue = this.#ensure(group, at, offset)
    for (const received of [...queue.messages.keys()]) this.#remove(queue, received)
    queue.attempts = []
    this.#moveCursor(queue, offset)
  }

  dropTopic(topicId: number): void {
    for (const queue of [...this.#queues.values()]) if (queue.topicId === topicId) this.#drop(queue)
  }

  dropGroup(group: string): void {
    for (const queue of this.ofGroup(group)) this.#drop(queue as Queue)
  }

  collect(into: StateOperation[]): void {
    for (const [name, key] of this.#cursorDirty) {
      const queue = this.#queues.get(name)
      into.push(queue ? { kind: 'put', key, value: cursorSchema.encode(queue) } : { kind: 'delete', key })
    }
    this.#cursorDirty.clear()
    for (const { key, queue, offset } of this.#messageDirty.values()) {
      const message = this.#queues.get(queue)?.messages.get(offset)
      into.push(message ? { kind: 'put', key, value: messageSchema.encode(message) } : { kind: 'delete', key })
    }
    this.#messageDirty.clear()
  }

  #ensure(group: string, { topicId, queue }: QueueId, start: number): Queue {
    const name = nameOf(group, { topicId, queue })
    const known = this.#queues.get(name)
    if (known) return known
    const made: Queue = {
      group,
      topicId,
      queue,
      cursor: start,
      attempts: [],
      messages: new Map(),
      changes: 0,
    }
    this.#queues.set(name, made)
    this.#noteCursor(made)
    return made
  }

  #put(queue: Queue, message: ReceivedMessage): void {
    queue.messages.set(message.offset, message)
    this.#noteMessage(queue, message.offset)
  }

  #remove(queue: Queue, offset: number): void {
    queue.messages.delete(offset)
    this.#noteMessage(queue, offset)
  }

  #skip(queue: Queue, to: number): void {
    for (const offset of queue.messages.keys()) {
      if (offset >= to) break
      this.#remove(queue, offset)
    }
    if (queue.cursor < to) this.#moveCursor(queue, to)
  }

  #moveCursor(queue: Queue, cursor: number): void {
    queue.cursor = cursor
    this.#noteCursor(queue)
  }

  #drop(queue: Queue): void {
    for (const offset of [...queue.messages.keys()]) this.#remove(queue, offset)
    this.#queues.delete(nameOf(queue.group, queue))
    this.#noteCursor(queue)
  }

  #noteCursor(queue: Queue): void {
    this.#cursorDirty.set(nameOf(queue.group, queue), groupQueueKey(rowKinds.receiveCursor, queue.group, queue))
  }

  #noteMessage(queue: Queue, offset: number): void {
    queue.changes++
    const name = nameOf(queue.group, queue)
    const key = groupMessageKey(rowKinds.received, queue.group, queue, offset)
    this.#messageDirty.set(`${name}/${offset}`, { key, queue: name, offset })
  }
}

function nameOf(group: string, { topicId, queue }: QueueId): string {
  return `${group}/${topicId}/${queue}`
}
