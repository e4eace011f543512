/**
 * What a broker checks of a batch before it proposes it. Called by the Produce stream for every request; throws the
 * LedgerError that becomes the request's response code. Nothing inside the batch is changed, ever.
 */
import { LedgerError } from '../../common/errors.ts'
import { checkBatch, deliveryTimes, longestBody, readRecords } from '../../message/batch.ts'
import { delayMsMax } from '../../message/delay-levels.ts'
import { readDelivery, readHalf } from '../../message/extensions.ts'
import { batchBytesMax, bodyBytesMax } from '../../message/limits.ts'
import { checkGroupName, checkTopicName } from '../../message/names.ts'
import { type BatchHeader, batchKinds, codecs } from '../../message/types.ts'
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
  if (header.kind === batchKinds.internal || readDelivery(header))
    throw new LedgerError('MESSAGE_ILLEGAL', 'clients may not send batches that only brokers make')
  if (header.kind === batchKinds.half) checkHalves(batch, header)
  if (header.kind === batchKinds.delayed) checkDelayed(batch, header)
  return header
}

/** A broker stores these messages once more when they are due: what it cannot read then would be stuck. */
function checkDelayed(batch: Buffer, { codec }: BatchHeader): void {
  if (codec !== codecs.none) readRecords(batch)
  if (deliveryTimes(batch).includes(0))
    throw new LedgerError('MESSAGE_ILLEGAL', 'every message of a delayed batch needs a delivery time')
}

/** RocketMQ's rule, too: a transaction decides when its message is delivered. */
function checkHalves(batch: Buffer, header: BatchHeader): void {
  const half = readHalf(header)
  if (!half) throw new LedgerError('MESSAGE_ILLEGAL', 'half messages name no producer group')
  checkGroupName(half.producerGroup)
  if (deliveryTimes(batch).some((time) => time !== 0))
    throw new LedgerError('MESSAGE_ILLEGAL', 'a message of a transaction cannot have a delivery time, too')
}

/**
 * What depends on the state: a body beyond the group's limit (13), unknown topic (17), not writeable (16), no such
 * queue or a delivery time that is too far (29). Null when all is well.
 */
export function findStateProblem(replica: ReplicaApi, batch: Buffer, header: BatchHeader): LedgerError | null {
  const { bodyBytesMax: limitBytes } = replica.machine
  return (
    findBodyProblem(limitBytes, batch) ?? findTopicProblem(replica, header) ?? findDelayProblem(replica, batch, header)
  )
}

function findBodyProblem(limitBytes: number, batch: Buffer): LedgerError | null {
  // Above the limit of the format a body is refused before; only a lower one is worth a look at the heads.
  if (limitBytes >= bodyBytesMax) return null
  const longest = longestBody(batch)
  if (longest <= limitBytes) return null
  return new LedgerError('MESSAGE_ILLEGAL', `a body has ${longest} bytes, this broker group allows ${limitBytes}`)
}

/** The past is no problem: such a message is delivered at once. */
function findDelayProblem({ logTime }: ReplicaApi, batch: Buffer, { kind }: BatchHeader): LedgerError | null {
  if (kind !== batchKinds.delayed) return null
  const furthest = Math.max(...deliveryTimes(batch))
  if (furthest <= logTime + delayMsMax) return null
  return new LedgerError(
    'INVALID_PARAMETER',
    `a message is delayed until ${furthest}, at most ${delayMsMax} ms (40 days) ahead of log time ${logTime} are allowed`,
  )
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
