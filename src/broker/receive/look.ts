/**
 * One look into one queue for one receiver: choose, propose, and give only what apply granted. Called by `engine.ts`,
 * which lets one look at a time into a queue of a group.
 */
import { LedgerError } from '../../common/errors.ts'
import { readRecordHeads } from '../../message/batch.ts'
import { matchesTag, type TagFilter } from '../../message/tag-filter.ts'
import { tagHash } from '../../message/tag-hash.ts'
import { pullEnvelopeBytes } from '../../rpc/envelopes.ts'
import type { FirstReceipt } from '../apply/receive-commands.ts'
import { type ReceivedMessage, type ReceiveQueue, receivedPerQueueMax } from '../apply/received.ts'
import type { ReplicaApi, TopicInfo } from '../contract.ts'
import { type Candidate, chooseHeld, chooseUnseen, type HeldChoice } from './choose.ts'
import { type DeadLetterPorts, giveUpDead } from './dead-letters.ts'
import { proposeCommand } from './propose.ts'
import { holds, mergeBatches, readFrom, readMessages, rowsPerReadMax, type StoredRecords } from './stored-records.ts'

/** What a receiver asks for, checked. */
export interface ReceiveOrder {
  readonly group: string
  readonly messagesMax: number
  readonly bytesMax: number
  readonly invisibleMs: number
  /** Empty: it will not ask again. */
  readonly attemptId: string
  readonly filter: TagFilter
}

export interface QueueAt {
  readonly topic: TopicInfo
  readonly queue: number
}

export interface Granted {
  readonly topicId: number
  readonly queue: number
  readonly messages: readonly Pick<ReceivedMessage, 'offset' | 'attempt' | 'receipt'>[]
  /** Log time. */
  readonly visibleAt: number
  readonly batches: readonly StoredRecords[]
}

export type Look =
  | { readonly kind: 'granted'; readonly granted: Granted }
  | { readonly kind: 'nothing' }
  /** What was there did not match, or went to the dead letters: there may be more. */
  | { readonly kind: 'again' }
  /** Apply saw another state than this look: the next one sees it, too. */
  | { readonly kind: 'superseded' }

/** Whether a message may be received again, and when the next one becomes visible by itself. */
interface Visibility {
  readonly changes: number
  readonly some: boolean
  readonly nextAt: number
}

const visibilities = new WeakMap<ReceiveQueue, Visibility>()

/** What the state says without reading: whether a look is worth while, and when it may be without any other event. */
export function glance(
  replica: ReplicaApi,
  order: ReceiveOrder,
  at: QueueAt,
): { readonly worthWhile: boolean; readonly nextVisibleAt: number } {
  const { machine, logTime } = replica
  const { topicId } = at.topic
  const range = machine.queueRange(topicId, at.queue)
  const known = machine.received.find(order.group, { topicId, queue: at.queue })
  if (!range) return { worthWhile: false, nextVisibleAt: Number.POSITIVE_INFINITY }
  if (!known) {
    const start = Math.max(range.min, machine.committedOffset(order.group, topicId, at.queue) ?? 0)
    return { worthWhile: start < range.max, nextVisibleAt: Number.POSITIVE_INFINITY }
  }
  const anew = order.attemptId !== '' && known.attempts.some(({ attemptId }) => attemptId === order.attemptId)
  const { some, nextAt } = visibilityOf(known, logTime)
  return { worthWhile: anew || some || known.cursor < range.max, nextVisibleAt: nextAt }
}

/** Whether messages of this queue are with the attempt. */
export function hasAttempt(replica: ReplicaApi, order: ReceiveOrder, at: QueueAt): boolean {
  const known = replica.machine.received.find(order.group, { topicId: at.topic.topicId, queue: at.queue })
  return known !== undefined && ofAttempt(known, order.attemptId, replica.logTime).length > 0
}

/** Many receivers wait at a time, and each is woken by every message: only a change is worth going through all. */
function visibilityOf(known: ReceiveQueue, logTime: number): Visibility {
  const before = visibilities.get(known)
  if (before?.changes === known.changes && before.nextAt > logTime) return before
  let some = false
  let nextAt = Number.POSITIVE_INFINITY
  for (const { visibleAt } of known.messages.values()) {
    if (visibleAt <= logTime) some = true
    else nextAt = Math.min(nextAt, visibleAt)
  }
  const found: Visibility = { changes: known.changes, some, nextAt }
  visibilities.set(known, found)
  return found
}

/** Throws what the log or the proposal says; a refusal by apply that no other look can change, too. */
export async function lookInto(
  ports: DeadLetterPorts,
  order: ReceiveOrder,
  at: QueueAt,
  timeoutMs: number,
): Promise<Look> {
  const { replica } = ports
  const { machine, logTime } = replica
  const place = { topicId: at.topic.topicId, queue: at.queue }
  const range = machine.queueRange(place.topicId, at.queue)
  if (!range) return { kind: 'nothing' }
  const known = machine.received.find(order.group, place)
  const sameAgain = known ? ofAttempt(known, order.attemptId, logTime) : []
  if (sameAgain.length > 0) return { kind: 'granted', granted: await grantAgain(replica, order, at, sameAgain) }
  const held = known ? chooseOfHeld(replica, order, known) : nothingHeld
  if (held.dead.length > 0) {
    const moved = await giveUpDead(ports, { group: order.group, ...place }, held.dead, timeoutMs)
    if (moved) return { kind: 'again' }
  }
  const start = Math.max(range.min, machine.committedOffset(order.group, place.topicId, at.queue) ?? 0)
  const chosen = await choose(replica, order, at, { known, held, cursor: known?.cursor ?? start, max: range.max })
  if (!chosen) return { kind: 'nothing' }
  const { again, first, waiting, cursor, batches } = chosen
  const result = await proposeCommand(
    replica,
    {
      kind: 'receive',
      group: order.group,
      ...place,
      attemptId: order.attemptId,
      invisibleMs: order.invisibleMs,
      first,
      again,
      waiting,
      cursor,
      start,
      ordered: isOrdered(replica, order.group),
    },
    timeoutMs,
  )
  if (result.kind === 'refused') {
    if (result.code === 'SUPERSEDED') return { kind: 'superseded' }
    throw new LedgerError(result.code, result.message)
  }
  if (result.kind !== 'received') throw new LedgerError('SYSTEM_ERROR', `a receive gave ${result.kind}`)
  if (result.messages.length === 0) return { kind: 'again' }
  const { receipt, visibleAt } = result
  const messages = result.messages.map((message) => ({ ...message, receipt }))
  return { kind: 'granted', granted: { ...place, messages, visibleAt, batches } }
}

const nothingHeld: HeldChoice = { again: [], dead: [], waiting: new Set(), waitingCount: 0 }

function chooseOfHeld(replica: ReplicaApi, order: ReceiveOrder, known: ReceiveQueue): HeldChoice {
  return chooseHeld(known.messages.values(), {
    logTime: replica.logTime,
    ordered: isOrdered(replica, order.group),
    deliveriesMax: replica.machine.groupSettings.get(order.group).retriesMax + 1,
    messagesMax: order.messagesMax,
  })
}

function isOrdered(replica: ReplicaApi, group: string): boolean {
  return replica.machine.groupSettings.get(group).ordered
}

/** What this attempt got before and still has. */
function ofAttempt(known: ReceiveQueue, attemptId: string, logTime: number): readonly ReceivedMessage[] {
  const attempt = attemptId === '' ? undefined : known.attempts.find((one) => one.attemptId === attemptId)
  if (!attempt) return []
  return [...known.messages.values()].filter(
    ({ receipt, visibleAt }) => receipt === attempt.receipt && visibleAt > logTime,
  )
}

async function grantAgain(
  replica: ReplicaApi,
  order: ReceiveOrder,
  at: QueueAt,
  messages: readonly ReceivedMessage[],
): Promise<Granted> {
  const place = { topicId: at.topic.topicId, queue: at.queue }
  const offsets = messages.map(({ offset }) => offset)
  const batches = await readMessages(replica, place, offsets, order.bytesMax)
  const read = messages.filter(({ offset }) => isIn(batches, offset))
  return { ...place, messages: read, visibleAt: Math.min(...read.map(({ visibleAt }) => visibleAt)), batches }
}

/** Messages of one queue that a group keeps for later because others of their message group are with somebody. */
const waitingPerQueueMax = 1024

interface Chosen {
  readonly again: readonly number[]
  readonly first: readonly FirstReceipt[]
  readonly waiting: readonly FirstReceipt[]
  readonly cursor: number
  readonly batches: readonly StoredRecords[]
}

/** Null: there is nothing, nor anything to pass over. */
async function choose(
  replica: ReplicaApi,
  order: ReceiveOrder,
  at: QueueAt,
  state: {
    readonly known: ReceiveQueue | undefined
    readonly held: HeldChoice
    readonly cursor: number
    readonly max: number
  },
): Promise<Chosen | null> {
  const place = { topicId: at.topic.topicId, queue: at.queue }
  const { held, cursor, max } = state
  const offsets = held.again.map(({ offset }) => offset)
  const heldBatches = offsets.length > 0 ? await readMessages(replica, place, offsets, order.bytesMax) : []
  const again = offsets.filter((offset) => isIn(heldBatches, offset))
  const bytesLeft = order.bytesMax - bytesOf(heldBatches)
  const room = receivedPerQueueMax - (state.known?.messages.size ?? 0)
  const messagesMax = Math.min(order.messagesMax - again.length, room)
  const goesOn = again.length === offsets.length && messagesMax > 0 && bytesLeft > 0 && cursor < max
  if (!goesOn) return again.length > 0 ? { again, first: [], waiting: [], cursor, batches: heldBatches } : null
  // Every row has a message: without a filter no more of them are needed.
  const rowsMax = order.filter.kind === 'all' ? messagesMax : rowsPerReadMax
  const found = await readFrom(replica, place, cursor, { rowsMax, bytesMax: bytesLeft })
  // The first one is read whatever its length: beside others it has to fit.
  const unread = again.length > 0 && bytesOf(found) > bytesLeft ? [] : found
  const candidates = unread.flatMap((batch) => candidatesOf(batch, order.filter, cursor))
  const waitingMax = Math.max(0, Math.min(room - messagesMax, waitingPerQueueMax - held.waitingCount))
  const unseen = chooseUnseen(candidates, { cursor, messagesMax, waitingMax, waitingGroups: held.waiting })
  if (again.length === 0 && unseen.cursor === cursor) return null
  const used = unread.filter((batch) => unseen.first.some(({ offset }) => holds(batch, offset)))
  return { again, ...unseen, batches: mergeBatches(heldBatches, used) }
}

function bytesOf(batches: readonly StoredRecords[]): number {
  return batches.reduce((sum, { batch }) => sum + batch.length + pullEnvelopeBytes, 0)
}

function candidatesOf(pulled: StoredRecords, filter: TagFilter, from: number): readonly Candidate[] {
  return readRecordHeads(pulled.batch)
    .map((head, record) => ({
      offset: pulled.baseOffset + record,
      orderHash: head.messageGroup === '' ? 0 : tagHash(head.messageGroup) >>> 0 || 1,
      matches: matchesTag(filter, head),
    }))
    .filter(({ offset }) => offset >= from)
}

function isIn(batches: readonly StoredRecords[], offset: number): boolean {
  return batches.some((batch) => holds(batch, offset))
}
