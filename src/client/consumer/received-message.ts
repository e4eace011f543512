/**
 * A message that was received by itself, and is with its receiver until it is settled or its time is over. Made by the
 * simple consumer; what its receiver says of it goes to the leader of its broker group.
 */
import { LedgerError } from '../../common/errors.ts'
import { checkBatch, readRecords } from '../../message/batch.ts'
import { decodePulledBatches } from '../../rpc/envelopes.ts'
import type { ReceiveReply } from '../../rpc/receive-messages.ts'
import { checkArgument } from '../options.ts'
import type { MessageQueue } from '../types.ts'
import { ConsumedMessage, StoredBatch } from './consumed-batch.ts'

/** RocketMQ: 12 h. */
export const invisibleMsMax: number = 12 * 3_600_000

export type SettleAction =
  | { readonly kind: 'ack' }
  | { readonly kind: 'change'; readonly invisibleMs: number }
  | { readonly kind: 'dead_letter' }

/** Tells the broker group; resolves with the handle that is good from now on, empty: none is. */
export type Settle = (brokerGroup: string, handle: string, action: SettleAction) => Promise<string>

export class ReceivedMessage extends ConsumedMessage {
  /** Deliveries to receivers of the group so far, 1 with the first. */
  readonly deliveryAttempt: number
  readonly #settle: Settle
  #handle: string

  constructor(
    stored: ConstructorParameters<typeof ConsumedMessage>,
    received: { readonly attempt: number; readonly handle: string; readonly settle: Settle },
  ) {
    super(...stored)
    this.deliveryAttempt = received.attempt
    this.#handle = received.handle
    this.#settle = received.settle
  }

  /** Opaque; changes with `changeInvisible`. */
  get receiptHandle(): string {
    return this.#handle
  }

  /**
   * Consumed. Rejects with RECEIPT_STALE when the message is not with this receiver any more: its time was over and
   * another one received it, or a seek passed it.
   */
  async ack(): Promise<void> {
    await this.#settle(this.queue.group, this.#handle, { kind: 'ack' })
  }

  /** From now on invisible to others for so long; 0: at once visible. Rejects as `ack` does. */
  async changeInvisible(ms: number): Promise<void> {
    const invisibleMs = checkArgument('ms', ms, 0, invisibleMsMax)
    this.#handle = await this.#settle(this.queue.group, this.#handle, { kind: 'change', invisibleMs })
  }

  /** To the dead letters of the group (`%DLQ%group`). Rejects as `ack` does. */
  async deadLetter(): Promise<void> {
    await this.#settle(this.queue.group, this.#handle, { kind: 'dead_letter' })
  }
}

/** What a broker answered, as messages. Throws MESSAGE_ILLEGAL and INVALID_REQUEST for bytes that are none. */
export function readReceived(
  reply: ReceiveReply,
  from: Pick<MessageQueue, 'topic' | 'group'> & { readonly node: string; readonly settle: Settle },
): readonly ReceivedMessage[] {
  const { appliedIndex, commitIndex } = reply
  const queue: MessageQueue = { topic: from.topic, group: from.group, queue: reply.queue }
  const batches = decodePulledBatches(reply.batches).map(({ baseOffset, index, storeTime, batch }) => {
    const { recordCount, baseBornTime } = checkBatch(batch)
    const replica = { node: from.node, appliedIndex, commitIndex }
    const place = { queue, baseOffset, startRecord: 0, recordCount, index, storeTime, baseBornTime, replica }
    return { stored: new StoredBatch({ ...place, bytes: batch }), records: readRecords(batch) }
  })
  return reply.messages.map(({ offset, attempt, handle }) => {
    const batch = batches.find(
      ({ stored }) => offset >= stored.firstOffset && offset < stored.firstOffset + stored.count,
    )
    const record = batch?.records[offset - batch.stored.firstOffset]
    if (!batch || !record) throw new LedgerError('INVALID_REQUEST', `offset ${offset} came without its batch`)
    return new ReceivedMessage([batch.stored, record, offset], { attempt, handle, settle: from.settle })
  })
}
