/**
 * What a broker checks of a batch before it proposes it. Called by the Produce stream for every request; throws the
 * LedgerError that becomes the request's response code. Nothing inside the batch is changed, ever.
 */
import { LedgerError } from '../../common/errors.ts'
import { checkBatch, longestBody } from '../../message/batch.ts'
import { batchBytesMax, bodyBytesMax } from '../../message/limits.ts'
import { checkTopicName } from '../../message/names.ts'
import { type BatchHeader, batchKinds } from '../../message/types.ts'
import type { ReplicaApi } from '../contract.ts'

const writeable = 2

/** What can be judged by looking at the batch: MESSAGE_ILLEGAL (13) and INVALID_PARAMETER (29). */
export function checkProducedBatch(batch: Buffer): BatchHeader {
  if (batch.length > batchBytesMax)
    throw new LedgerError(
      'MESSAGE_ILLEGAL',
      `the batch has ${batch.length} bytes, at most ${batchBytesMax} are allowed`,
    )
  const header = checkBatch(batch)
  checkTopicName(header.topic)
  // Half messages and internal ones are made by the broker; delayed ones would be delivered at once by this version.
  if (header.kind !== batchKinds.normal && header.kind !== batchKinds.ordered)
    throw new LedgerError('MESSAGE_ILLEGAL', `clients may not send batches of kind ${header.kind} to this broker`)
  return header
}

/**
 * What depends on the state: a body beyond the group's limit (13), unknown topic (17), not writeable (16), no such
 * queue (29). Null when all is well.
 */
export function findStateProblem(replica: ReplicaApi, batch: Buffer, header: BatchHeader): LedgerError | null {
  return findBodyProblem(replica.machine.bodyBytesMax, batch) ?? findTopicProblem(replica, header)
}

function findBodyProblem(limitBytes: number, batch: Buffer): LedgerError | null {
  // Above the limit of the format a body is refused before; only a lower one is worth a look at the heads.
  if (limitBytes >= bodyBytesMax) return null
  const longest = longestBody(batch)
  if (longest <= limitBytes) return null
  return new LedgerError('MESSAGE_ILLEGAL', `a body has ${longest} bytes, this broker group allows ${limitBytes}`)
}

function findTopicProblem(replica: ReplicaApi, header: BatchHeader): LedgerError | null {
  const topic = replica.machine.topic(header.topic)
  if (!topic)
    return new LedgerError('TOPIC_NOT_EXIST', `topic ${header.topic} does not exist in group ${replica.group}`)
  if ((topic.config.permission & writeable) === 0)
    return new LedgerError('NO_PERMISSION', `topic ${header.topic} may not be written`)
  if (header.queue >= topic.config.writeQueues)
    return new LedgerError(
      'INVALID_PARAMETER',
      `queue ${header.queue} of ${header.topic} does not exist; it has ${topic.config.writeQueues} write queues, counted from 0`,
    )
  return null
}
