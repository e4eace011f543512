/** What may be received together, and which receives are remembered. Pure; used by `received.ts`. */
import type { FirstReceipt, Receive } from './receive-commands.ts'
import type { ReceiveAttempt, ReceiveQueue } from './received.ts'
import { type Refusal, refusal } from './result.ts'

/** Receives of one queue by one group that can be asked again: about as many as wait for their answer at a time. */
export const attemptsPerQueueMax = 32

/**
 * The messages of a message group are with one receiver at a time and in their order: one that somebody has, or that
 * lies before and is not settled, lets the others wait unless it comes with them.
 */
export function findOutOfOrder(
  { first, again, waiting }: Receive,
  known: ReceiveQueue | undefined,
  logTime: number,
): Refusal | null {
  const given = new Set(again)
  const waitsFrom = new Map<number, number>()
  const waits = (orderHash: number, from: number): void => {
    if (orderHash !== 0) waitsFrom.set(orderHash, Math.min(from, waitsFrom.get(orderHash) ?? from))
  }
  for (const { offset, orderHash, visibleAt } of known?.messages.values() ?? [])
    if (!given.has(offset)) waits(orderHash, visibleAt > logTime ? -1 : offset)
  for (const { offset, orderHash } of waiting) waits(orderHash, offset)
  const early = [
    ...first,
    ...again.map((offset) => ({ offset, orderHash: known?.messages.get(offset)?.orderHash ?? 0 })),
  ].find(({ offset, orderHash }) => (waitsFrom.get(orderHash) ?? offset) < offset)
  return early ? superseded(`offset ${early.offset} has to wait for others of its message group`) : null
}

/** What nobody of the group saw before, in the order of the queue; a message in both lists comes twice. */
export function unseenOf({ first, waiting }: Receive): readonly FirstReceipt[] {
  return waiting.length === 0 ? first : [...first, ...waiting].sort((a, b) => a.offset - b.offset)
}

export function withAttempt(
  attempts: readonly ReceiveAttempt[],
  attemptId: string,
  receipt: number,
): readonly ReceiveAttempt[] {
  const others = attempts.filter((attempt) => attempt.attemptId !== attemptId)
  return [...others.slice(1 - attemptsPerQueueMax), { attemptId, receipt }]
}

export function superseded(message: string): Refusal {
  return refusal('SUPERSEDED', message)
}
