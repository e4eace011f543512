/**
 * Takes messages back that a member of a group could not handle: reads them from the log and stores them once more, for
 * later or as dead letters. Registered by `register.ts`; the leader alone answers.
 *
 * Apply takes each message once. So a member may ask as often as it likes, also after a failover: what was given back
 * before is a success.
 */
import { frameBody, frameTypes } from '../../../store/index.ts'
import { invariant } from '../../common/assert.ts'
import type { Clock } from '../../common/clock.ts'
import { LedgerError } from '../../common/errors.ts'
import { readBatchHeader, readRecords } from '../../message/batch.ts'
import { delayLevelsMs } from '../../message/delay-levels.ts'
import type { GiveBackReply, GiveBackRequest, GivenBackMessage } from '../../rpc/group-messages.ts'
import { brokerMethods } from '../../rpc/methods.ts'
import type { CallContext, ServerRoutes } from '../../rpc/transport.ts'
import type { QueueRow, ReplicaApi } from '../contract.ts'
import { checkMember } from '../group/heartbeat-check.ts'
import { failureOf } from './failure.ts'
import { type ConsumedRecord, type Fate, fateOf, makeGivenBackBatch, splitForBatches } from './given-back-batch.ts'
import { becomeCurrent, waitOptions } from './leadership.ts'
import { checkCount } from './numbers.ts'
import { checkQueues, topicOf } from './offsets.ts'

/** Messages of one request. */
export const givenBackPerRequestMax = 64
/** How often the state is looked at anew when it moved on meanwhile. */
const roundsMax = 4

export interface GiveBackParts {
  readonly replica: ReplicaApi
  readonly clock: Clock
}

type Outcome = Fate['kind'] | 'done'

export function registerGiveBackHandler(routes: ServerRoutes, parts: GiveBackParts): void {
  routes.unary(brokerMethods.giveBack, (request, context) => giveBack(parts, request, context))
}

async function giveBack(parts: GiveBackParts, request: GiveBackRequest, context: CallContext): Promise<GiveBackReply> {
  check(request)
  const { replica } = parts
  const last = Math.max(...request.entries.map(({ offset }) => offset))
  // Read from a follower, it may be newer than what a leader knows that only believes it leads.
  if (!replica.leading || endOf(replica, request) <= last) await becomeCurrent(replica, waitOptions(context))
  const { topicId } = topicOf(replica, request)
  if (endOf(replica, request) <= last)
    throw new LedgerError('INVALID_PARAMETER', `queue ${request.queue} of ${request.topic} has no offset ${last} yet`)
  const outcomes = new Map<number, Outcome>()
  for (const entry of request.entries) {
    if (outcomes.has(entry.offset)) throw new LedgerError('INVALID_PARAMETER', `offset ${entry.offset} is named twice`)
    outcomes.set(entry.offset, 'done')
  }
  for (let round = 0; round < roundsMax; round++) {
    const left = request.entries.filter(({ offset }) => outcomes.get(offset) === 'done')
    const open = left.filter(({ offset }) => !isDone(replica, request, topicId, offset))
    if (open.length === 0 || (await tryAll(parts, request, { topicId, open, outcomes }, context)))
      return { outcomes: request.entries.map(({ offset }) => outcomes.get(offset) ?? 'done') }
  }
  throw new LedgerError('SUPERSEDED', `the state of queue ${request.queue} of ${request.topic} moves on too fast`)
}

/** False: the state has moved on, look again. What was stored until then is in `outcomes`. */
async function tryAll(
  parts: GiveBackParts,
  request: GiveBackRequest,
  at: {
    readonly topicId: number
    readonly open: readonly GivenBackMessage[]
    readonly outcomes: Map<number, Outcome>
  },
  context: CallContext,
): Promise<boolean> {
  const { replica, clock } = parts
  const { group, member, generation, topic, queue } = request
  const { topicId, open, outcomes } = at
  const settings = replica.machine.groupSettings.get(group)
  const nowMs = Math.max(clock.wallMs(), replica.machine.appliedTime)
  const wishes = new Map(open.map((entry) => [entry.offset, entry]))
  const records = (await readConsumed(replica, { topicId, queue }, [...wishes.keys()])).flatMap((one) => {
    const wish = wishes.get(one.offset)
    return wish ? [{ ...one, fate: fateOf(one.record, wish, settings, nowMs) }] : []
  })
  const source = { group, topicId, queue, member, generation, receipts: [], topic }
  for (const kind of ['retry', 'dead_letter'] as const) {
    const alike = records.filter(({ fate }) => fate.kind === kind)
    const fates = new Map(alike.map(({ offset, fate }) => [offset, fate]))
    for (const part of splitForBatches(alike)) {
      const given = part.flatMap((one) => {
        const fate = fates.get(one.offset)
        return fate ? [{ ...one, fate }] : []
      })
      if (!(await propose(replica, makeGivenBackBatch(source, given), context))) return false
      for (const { offset } of given) outcomes.set(offset, kind)
    }
  }
  return true
}

/** False: refused because a message of the batch was taken meanwhile. */
async function propose(replica: ReplicaApi, batch: Buffer, context: CallContext): Promise<boolean> {
  try {
    const { result } = await replica.propose(frameTypes.batch, [batch], waitOptions(context))
    if (result.kind !== 'refused') return true
    if (result.code === 'SUPERSEDED') return false
    throw new LedgerError(result.code, result.message)
  } catch (error) {
    throw failureOf(error)
  }
}

/** Given back or given up before, committed, or gone with the log: nothing is left to be done for it. */
function isDone({ machine }: ReplicaApi, request: GiveBackRequest, topicId: number, offset: number): boolean {
  const { group, queue } = request
  const committed = machine.committedOffset(group, topicId, queue) ?? 0
  const min = machine.queueRange(topicId, queue)?.min ?? 0
  return offset < Math.max(committed, min) || machine.givenBack.has({ group, topicId, queue }, offset)
}

/** One behind the last message of the queue; 0 when there is no such queue. */
function endOf({ machine }: ReplicaApi, { topic, queue }: Pick<GiveBackRequest, 'topic' | 'queue'>): number {
  const known = machine.topic(topic)
  return (known && machine.queueRange(known.topicId, queue)?.max) ?? 0
}

/** Those that the log still holds, in ascending order. */
async function readConsumed(
  replica: ReplicaApi,
  { topicId, queue }: { readonly topicId: number; readonly queue: number },
  offsets: readonly number[],
): Promise<readonly ConsumedRecord[]> {
  const found: ConsumedRecord[] = []
  let read: { readonly row: QueueRow; readonly records: readonly ConsumedRecord[] } | null = null
  for (const offset of [...offsets].sort((a, b) => a - b)) {
    if (!read || offset >= read.row.baseOffset + read.row.recordCount) {
      const [row] = await replica.machine.findRows(topicId, queue, offset, 1)
      // Trimmed meanwhile: it is done with.
      if (!row || row.baseOffset > offset) continue
      read = { row, records: await readRow(replica, row) }
    }
    const record = read.records[offset - read.row.baseOffset]
    invariant(record !== undefined, 'B2: a row of a queue counts the records of its batch')
    found.push(record)
  }
  return found
}

async function readRow({ log }: ReplicaApi, row: QueueRow): Promise<readonly ConsumedRecord[]> {
  try {
    const frame = log.cachedAt(row.position) ?? (await log.readAt(row.position))
    invariant(frame.header.index === row.index, 'B2: a row of a queue points at its own entry')
    const batch = frameBody(frame)
    const { baseBornTime, bornHost } = readBatchHeader(batch)
    return readRecords(batch).map((record, at) => {
      return { offset: row.baseOffset + at, record, bornTime: baseBornTime + record.bornDelta, bornHost }
    })
  } catch (error) {
    throw failureOf(error)
  }
}

function check({ group, member, generation, topic, queue, entries }: GiveBackRequest): void {
  checkMember(group, member)
  checkCount(generation, 'generation')
  checkQueues([{ topic, queue }])
  if (entries.length === 0) throw new LedgerError('INVALID_REQUEST', 'the request names no message')
  if (entries.length > givenBackPerRequestMax)
    throw new LedgerError('INVALID_PARAMETER', `${entries.length} messages, at most ${givenBackPerRequestMax}`)
  for (const { offset, delayLevel } of entries) {
    checkCount(offset, 'offset')
    checkCount(delayLevel, 'delayLevel')
    if (delayLevel > delayLevelsMs.length)
      throw new LedgerError('INVALID_PARAMETER', `delay level ${delayLevel} is none of 1 to ${delayLevelsMs.length}`)
  }
}
