/**
 * Commands of consumption message by message (RocketMQ: POP): what was received, and what became of it. The leader
 * chooses, apply judges; one command carries a whole batch.
 */
import { bool, messages, type Schema, schema, text, uint, uints } from '../../common/protobuf-schema.ts'

/** A message that nobody of the group received before. */
export interface FirstReceipt {
  readonly offset: number
  /** Hash of its message group, 0 without one: in an ordered group it waits for those before it. */
  readonly orderHash: number
}

export interface Receive {
  readonly kind: 'receive'
  readonly group: string
  readonly topicId: number
  readonly queue: number
  /** Chosen by the receiver: asked for once more, it gets the same messages as long as it may have them. */
  readonly attemptId: string
  readonly invisibleMs: number
  /** In ascending order, at or behind the cursor. */
  readonly first: readonly FirstReceipt[]
  /** Received before, invisible no longer. Ascending. */
  readonly again: readonly number[]
  /**
   * Passed over and kept: others of their message group are with somebody. At once visible, and not delivered yet. In
   * ascending order, at or behind the cursor.
   */
  readonly waiting: readonly FirstReceipt[]
  /** Where the cursor moves to: what lies before it and is in neither list does not match the filter. */
  readonly cursor: number
  /** Where the group begins when it never consumed from this queue. */
  readonly start: number
  /** The group keeps the order of message groups: one of them is with one receiver at a time. */
  readonly ordered: boolean
}

export interface SettledMessage {
  readonly topicId: number
  readonly queue: number
  readonly offset: number
  /** Entry by which it was received: another one since makes this one stale. */
  readonly receipt: number
  /** Null: consumed. Else invisible for so long from the entry on, milliseconds of log time, 0: at once visible. */
  readonly invisibleMs: number | null
}

export interface Settle {
  readonly kind: 'settle'
  readonly group: string
  /** The order is the order of the answer. */
  readonly messages: readonly SettledMessage[]
}

type Payload<Command> = Omit<Command, 'kind'>

/** `invisible`: the time and 1, so that absence says consumed. */
interface SettledFields extends Omit<SettledMessage, 'invisibleMs'> {
  readonly invisible: number
}

const firstSchema: Schema<FirstReceipt> = schema<FirstReceipt>({ offset: uint(1), orderHash: uint(2) })
const settledSchema: Schema<SettledFields> = schema<SettledFields>({
  topicId: uint(1),
  queue: uint(2),
  offset: uint(3),
  receipt: uint(4),
  invisible: uint(5),
})

export const receiveSchema: Schema<Payload<Receive>> = schema<Payload<Receive>>({
  group: text(1),
  topicId: uint(2),
  queue: uint(3),
  attemptId: text(4),
  invisibleMs: uint(5),
  first: messages(6, firstSchema),
  again: uints(7),
  cursor: uint(8),
  ordered: bool(9),
  start: uint(10),
  waiting: messages(11, firstSchema),
})

const settleFields = schema<{ readonly group: string; readonly messages: readonly SettledFields[] }>({
  group: text(1),
  messages: messages(2, settledSchema),
})

export const settleSchema: Pick<Schema<Payload<Settle>>, 'write' | 'read'> = {
  write: (writer, { group, messages }) =>
    settleFields.write(writer, {
      group,
      messages: messages.map(({ invisibleMs, ...message }) => ({
        ...message,
        invisible: invisibleMs === null ? 0 : invisibleMs + 1,
      })),
    }),
  read: (reader) => {
    const { group, messages } = settleFields.read(reader)
    return {
      group,
      messages: messages.map(({ invisible, ...message }) => ({
        ...message,
        invisibleMs: invisible === 0 ? null : invisible - 1,
      })),
    }
  },
}
