/**
 * Which messages of a queue a receiver is to get: decided here, judged by apply. Pure; called by `look.ts`.
 *
 * First those that come again, then those that nobody has seen. With order, the messages of a message group are with
 * one receiver at a time: what the cursor passes of a group that somebody has is kept for later.
 */
import type { FirstReceipt } from '../apply/receive-commands.ts'
import type { ReceivedMessage } from '../apply/received.ts'

export interface HeldChoice {
  /** To be given out again, in the order of their offsets. */
  readonly again: readonly ReceivedMessage[]
  /** Delivered as often as may be. */
  readonly dead: readonly ReceivedMessage[]
  /** Message groups of which somebody has messages, or has to get others first. */
  readonly waiting: ReadonlySet<number>
  /** Messages that were passed over and not delivered yet. */
  readonly waitingCount: number
}

export interface HeldRules {
  readonly logTime: number
  readonly ordered: boolean
  readonly deliveriesMax: number
  readonly messagesMax: number
}

/** `held`: what was received and not settled, in the order of its offsets. */
export function chooseHeld(held: Iterable<ReceivedMessage>, rules: HeldRules): HeldChoice {
  const { logTime, ordered, deliveriesMax, messagesMax } = rules
  const again: ReceivedMessage[] = []
  const dead: ReceivedMessage[] = []
  const waiting = new Set<number>()
  const visible: ReceivedMessage[] = []
  let waitingCount = 0
  for (const message of held) {
    if (message.attempt === 0) waitingCount++
    if (message.visibleAt <= logTime) visible.push(message)
    else if (ordered && message.orderHash !== 0) waiting.add(message.orderHash)
  }
  for (const message of visible) {
    if (waiting.has(message.orderHash)) continue
    if (message.attempt < deliveriesMax && again.length < messagesMax) {
      again.push(message)
      continue
    }
    if (message.attempt >= deliveriesMax && dead.length < messagesMax) dead.push(message)
    if (ordered && message.orderHash !== 0) waiting.add(message.orderHash)
  }
  return { again, dead, waiting, waitingCount }
}

/** An unseen message as its record head tells. */
export interface Candidate extends FirstReceipt {
  readonly matches: boolean
}

export interface UnseenChoice {
  readonly first: readonly FirstReceipt[]
  /** Passed over: their message group waits. */
  readonly waiting: readonly FirstReceipt[]
  /** Behind the last one that was given out, passed over, or does not match. */
  readonly cursor: number
}

export interface UnseenRules {
  readonly cursor: number
  readonly messagesMax: number
  /** Most to be passed over. */
  readonly waitingMax: number
  readonly waitingGroups: ReadonlySet<number>
}

/** `candidates`: those from the cursor on, without gaps. */
export function chooseUnseen(candidates: readonly Candidate[], rules: UnseenRules): UnseenChoice {
  const { messagesMax, waitingMax, waitingGroups } = rules
  const first: FirstReceipt[] = []
  const waiting: FirstReceipt[] = []
  let { cursor } = rules
  for (const { offset, orderHash, matches } of candidates) {
    if (matches) {
      const waits = waitingGroups.has(orderHash)
      if (first.length >= messagesMax || (waits && waiting.length >= waitingMax)) break
      ;(waits ? waiting : first).push({ offset, orderHash })
    }
    cursor = offset + 1
  }
  return { first, waiting, cursor }
}
