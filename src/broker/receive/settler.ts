/**
 * What receivers say of their messages: consumed, later, or given up. Called by `handler/receive.ts` on the leader.
 *
 * Every message is judged for itself, by apply; a stale receipt is an answer, not an error of the call.
 */
import { LedgerError } from '../../common/errors.ts'
import {
  makeReceiptHandle,
  type ReceiptScope,
  type ReceivedPlace,
  readReceiptHandle,
} from '../../message/receipt-handle.ts'
import type { SettleEntry } from '../../rpc/receive-messages.ts'
import type { SettledMessage } from '../apply/receive-commands.ts'
import { invisibleMsMax } from '../apply/receiving.ts'
import type { ReplicaApi } from '../contract.ts'
import { notLeader } from '../handler/leadership.ts'
import { type DeadLetterPorts, giveUpMessages } from './dead-letters.ts'
import { proposeCommand } from './propose.ts'

/** Null: done, with the handle that is good from now on, or empty. */
export interface Settled {
  readonly problem: LedgerError | null
  readonly handle: string
}

interface Wanted {
  readonly place: ReceivedPlace
  readonly entry: SettleEntry
  /** In the order of the answer. */
  readonly at: number
}

/** Tries for the dead letters of one queue before the rest is called stale: each is one entry. */
const entriesPerQueueMax = 1024

export function scopeOf({ group, incarnation }: ReplicaApi, consumerGroup: string): ReceiptScope {
  return { brokerGroup: group, incarnation, consumerGroup }
}

/** In the order asked. Throws NOT_LEADER and what the proposal says. */
export async function settleMessages(
  ports: DeadLetterPorts,
  group: string,
  entries: readonly SettleEntry[],
  timeoutMs: number,
): Promise<readonly Settled[]> {
  const { replica } = ports
  if (!replica.leading) throw notLeader(replica)
  const scope = scopeOf(replica, group)
  const results: Settled[] = entries.map(() => stale)
  const wanted: Wanted[] = []
  for (const [at, entry] of entries.entries()) {
    const place = readEntry(scope, entry)
    if (place instanceof LedgerError) results[at] = { problem: place, handle: '' }
    else wanted.push({ place, entry, at })
  }
  const given = wanted.filter(({ entry }) => entry.action === 'dead_letter')
  const others = wanted.filter(({ entry }) => entry.action !== 'dead_letter')
  if (others.length > 0) await settleOthers(replica, { group, scope, timeoutMs }, others, results)
  for (const queue of byQueue(given)) await giveUp(ports, group, queue, { timeoutMs, results })
  return results
}

const done: Settled = { problem: null, handle: '' }
const stale: Settled = {
  problem: new LedgerError('RECEIPT_STALE', 'the message is not with this receipt any more'),
  handle: '',
}

function readEntry(scope: ReceiptScope, { handle, action, invisibleMs }: SettleEntry): ReceivedPlace | LedgerError {
  if (action !== 'ack' && action !== 'change' && action !== 'dead_letter')
    return new LedgerError('INVALID_PARAMETER', `action must be ack, change or dead_letter, not ${action.slice(0, 40)}`)
  if (!Number.isSafeInteger(invisibleMs) || invisibleMs < 0 || invisibleMs > invisibleMsMax)
    return new LedgerError('INVALID_PARAMETER', `invisibleMs must be from 0 to ${invisibleMsMax}, not ${invisibleMs}`)
  try {
    return readReceiptHandle(scope, handle)
  } catch (error) {
    if (error instanceof LedgerError) return error
    throw error
  }
}

async function settleOthers(
  replica: ReplicaApi,
  call: { readonly group: string; readonly scope: ReceiptScope; readonly timeoutMs: number },
  wanted: readonly Wanted[],
  results: Settled[],
): Promise<void> {
  const messages: readonly SettledMessage[] = wanted.map(({ place, entry }) => ({
    ...place,
    invisibleMs: entry.action === 'change' ? entry.invisibleMs : null,
  }))
  const result = await proposeCommand(replica, { kind: 'settle', group: call.group, messages }, call.timeoutMs)
  if (result.kind === 'refused') throw new LedgerError(result.code, result.message)
  if (result.kind !== 'settled') throw new LedgerError('SYSTEM_ERROR', `a settle gave ${result.kind}`)
  for (const [nth, { place, entry, at }] of wanted.entries()) {
    if (!result.done[nth]) continue
    const { receipt } = result
    results[at] =
      entry.action === 'change' ? { problem: null, handle: makeReceiptHandle(call.scope, { ...place, receipt }) } : done
  }
}

/** Messages of one queue. */
async function giveUp(
  ports: DeadLetterPorts,
  group: string,
  wanted: readonly Wanted[],
  call: { readonly timeoutMs: number; readonly results: Settled[] },
): Promise<void> {
  const [first] = wanted
  if (!first) return
  const { topicId, queue } = first.place
  const isHeld = ({ place }: Wanted): boolean => {
    const known = ports.replica.machine.received.find(group, { topicId, queue })
    return known?.messages.get(place.offset)?.receipt === place.receipt
  }
  let left = [...wanted].sort((a, b) => a.place.offset - b.place.offset)
  for (let entries = 0; entries < entriesPerQueueMax; entries++) {
    // One that is stale would have the whole entry refused. The same one named twice is stale the second time.
    left = left.filter((one, nth) => isHeld(one) && left[nth - 1]?.place.offset !== one.place.offset)
    if (left.length === 0) return
    const known = ports.replica.machine.received.find(group, { topicId, queue })
    const messages = left.map(({ place }) => ({
      offset: place.offset,
      receipt: place.receipt,
      attempt: known?.messages.get(place.offset)?.attempt ?? 1,
    }))
    const { moved, result } = await giveUpMessages(ports, { group, topicId, queue }, messages, call.timeoutMs)
    if (result.kind === 'refused' && result.code === 'RECEIPT_STALE') continue
    if (result.kind === 'refused') {
      const problem = new LedgerError(result.code, result.message)
      for (const { at } of left) call.results[at] = { problem, handle: '' }
      return
    }
    for (const { at } of left.slice(0, moved.length)) call.results[at] = done
    left = left.slice(moved.length)
  }
}

function byQueue(wanted: readonly Wanted[]): readonly (readonly Wanted[])[] {
  const queues = new Map<string, Wanted[]>()
  for (const one of wanted) {
    const name = `${one.place.topicId}/${one.place.queue}`
    const known = queues.get(name)
    if (known) known.push(one)
    else queues.set(name, [one])
  }
  return [...queues.values()]
}
