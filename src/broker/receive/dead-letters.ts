/**
 * Moves messages that a group has given up into its dead-letter topic: copies with their attempt and where they came
 * from, stored by one entry that takes them from the group at the same time. Called by `look.ts` and `settler.ts`.
 */
import { frameTypes } from '../../../store/index.ts'
import type { Logger } from '../../common/logger.ts'
import { encodeBatch, readBatchHeader, readRecords } from '../../message/batch.ts'
import { type ConsumedSource, deliveryExtension } from '../../message/extensions.ts'
import { batchBytesTarget } from '../../message/limits.ts'
import { deadLetterTopicOf } from '../../message/system-topics.ts'
import { batchKinds, codecs, type RecordFields } from '../../message/types.ts'
import type { ReceivedMessage } from '../apply/received.ts'
import type { ApplyResult, ReplicaApi } from '../contract.ts'
import { proposeEntry } from './propose.ts'
import { holds, readMessages, type StoredRecords } from './stored-records.ts'

export interface DeadLetterPorts {
  readonly replica: ReplicaApi
  readonly logger: Logger
}

export interface GroupQueue {
  readonly group: string
  readonly topicId: number
  readonly queue: number
}

type Given = Pick<ReceivedMessage, 'offset' | 'attempt' | 'receipt'>

const attemptMax = 0xffff
const bornDeltaMax = 0x7fff_ffff

/** What of these messages went into one entry, always the first of them, with what apply said. Throws as reading does. */
export async function giveUpMessages(
  { replica }: DeadLetterPorts,
  at: GroupQueue,
  messages: readonly Given[],
  timeoutMs: number,
): Promise<{ readonly moved: readonly Given[]; readonly result: ApplyResult }> {
  const topic = replica.machine.topicById(at.topicId)?.config.topic ?? ''
  const offsets = messages.map(({ offset }) => offset)
  const batches = await readMessages(replica, at, offsets, batchBytesTarget)
  const moved: Given[] = []
  const records: RecordFields[] = []
  let base: { readonly bornTime: number; readonly bornHost: string } | null = null
  let bytes = 0
  for (const message of messages) {
    const batch = batches.find((one) => holds(one, message.offset))
    if (!batch) break
    const { record, bornTime, bornHost } = recordOf(batch, message.offset)
    base ??= { bornTime, bornHost }
    bytes += record.body.length
    const bornDelta = bornTime - base.bornTime
    // One batch has one born host and one base time: what differs goes into the next one.
    const fits = bornHost === base.bornHost && Math.abs(bornDelta) < bornDeltaMax && bytes <= batchBytesTarget
    if (moved.length > 0 && !fits) break
    const origin = record.origin ?? { topic, queue: at.queue, offset: message.offset }
    records.push({ ...record, bornDelta, deliveryTime: 0, attempt: Math.min(message.attempt, attemptMax), origin })
    moved.push(message)
  }
  const source: ConsumedSource = {
    ...at,
    offsets: moved.map(({ offset }) => offset),
    member: '',
    generation: 0,
    receipts: moved.map(({ receipt }) => receipt),
  }
  const body = encodeBatch({
    codec: codecs.none,
    kind: batchKinds.internal,
    firstOfProducer: false,
    producerId: Buffer.alloc(16),
    producerEpoch: 0,
    baseSequence: 0,
    baseBornTime: base?.bornTime ?? 0,
    topic: deadLetterTopicOf(at.group),
    queue: 0,
    bornHost: base?.bornHost ?? '',
    extensions: [deliveryExtension({ kind: 'dead_letters', source })],
    records,
  })
  return { moved, result: await proposeEntry(replica, frameTypes.batch, body, timeoutMs) }
}

/** Messages that were delivered as often as may be. False: they stay, and the log says why. */
export async function giveUpDead(
  ports: DeadLetterPorts,
  at: GroupQueue,
  dead: readonly Given[],
  timeoutMs: number,
): Promise<boolean> {
  const { result } = await giveUpMessages(ports, at, dead, timeoutMs)
  if (result.kind !== 'refused' || result.code === 'RECEIPT_STALE') return true
  ports.logger.error('messages cannot be moved to the dead letters', {
    consumerGroup: at.group,
    queue: at.queue,
    count: dead.length,
    reason: result.message,
  })
  return false
}

function recordOf(
  { batch, baseOffset }: StoredRecords,
  offset: number,
): { readonly record: RecordFields; readonly bornTime: number; readonly bornHost: string } {
  const { baseBornTime, bornHost } = readBatchHeader(batch)
  const [record] = readRecords(batch, offset - baseOffset)
  if (!record) throw new Error(`B2: offset ${offset} is not in the batch from ${baseOffset}`)
  return { record, bornTime: baseBornTime + record.bornDelta, bornHost }
}
