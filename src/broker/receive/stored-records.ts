/** Stored batches for receivers and dead letters, read from the log. Called by the files beside it. */
import { LedgerError } from '../../common/errors.ts'
import type { PulledBatch } from '../../rpc/envelopes.ts'
import type { QueueRow, ReplicaApi } from '../contract.ts'
import { failureOf } from '../handler/failure.ts'
import { readBatches } from '../handler/pull-read.ts'

export interface QueueOfTopic {
  readonly topicId: number
  readonly queue: number
}

/** A batch as it lies in its queue. */
export interface StoredRecords extends PulledBatch {
  readonly recordCount: number
}

/** Rows of one answer: small batches must not make one answer hold the loop. */
export const rowsPerReadMax = 1024

/**
 * The batches with these messages, in the order of their offsets, as many as fit, at least one. Throws what the log
 * says when it cannot read the first one, TOPIC_NOT_EXIST when the topic is gone.
 */
export async function readMessages(
  replica: ReplicaApi,
  at: QueueOfTopic,
  offsets: readonly number[],
  bytesMax: number,
): Promise<readonly StoredRecords[]> {
  const rows: QueueRow[] = []
  for (const offset of offsets) {
    const last = rows.at(-1)
    if (last && offset < last.baseOffset + last.recordCount) continue
    const [row] = await replica.machine.findRows(at.topicId, at.queue, offset, 1)
    if (!row) throw new LedgerError('TOPIC_NOT_EXIST', `queue ${at.queue} of topic ${at.topicId} is gone`)
    rows.push(row)
  }
  return read(replica, rows, bytesMax)
}

/** The batches from this offset on. */
export async function readFrom(
  replica: ReplicaApi,
  at: QueueOfTopic,
  offset: number,
  limits: { readonly rowsMax: number; readonly bytesMax: number },
): Promise<readonly StoredRecords[]> {
  const rowsMax = Math.min(limits.rowsMax, rowsPerReadMax)
  const rows = await replica.machine.findRows(at.topicId, at.queue, offset, rowsMax)
  return read(replica, rows, limits.bytesMax)
}

async function read(
  replica: ReplicaApi,
  rows: readonly QueueRow[],
  bytesMax: number,
): Promise<readonly StoredRecords[]> {
  // Whole batches: who receives picks its messages by their offsets.
  const found = await readBatches(replica, rows, { offset: 0, bytesMax })
  if (found instanceof Error) throw failureOf(found)
  return found.batches.map((batch, at) => ({ ...batch, recordCount: rows[at]?.recordCount ?? 0 }))
}

export function holds({ baseOffset, recordCount }: StoredRecords, offset: number): boolean {
  return offset >= baseOffset && offset < baseOffset + recordCount
}

/** In the order of their offsets, each once. */
export function mergeBatches(
  some: readonly StoredRecords[],
  others: readonly StoredRecords[],
): readonly StoredRecords[] {
  const known = new Set(some.map(({ index }) => index))
  return [...some, ...others.filter(({ index }) => !known.has(index))]
}
