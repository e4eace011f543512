/** Which open transactions the leader asks about now, and which it gives up. Called by the check service. Pure. */
import type { Half } from '../apply/halves.ts'
import type { TransactionSettings } from './settings.ts'

/** Of each kind in one round: bounds its entries in the log, and its reads. */
export const dueChecksMax = 4096

export interface DueChecks {
  readonly ask: readonly Half[]
  /** Asked about often enough: rolled back. */
  readonly giveUp: readonly Half[]
}

export function dueChecks(
  pending: Iterable<Half>,
  logTime: number,
  settings: Pick<TransactionSettings, 'timeOutMs' | 'checkMax'>,
): DueChecks {
  const ask: Half[] = []
  const giveUp: Half[] = []
  for (const half of pending) {
    if (logTime < half.storeTime + settings.timeOutMs || logTime < half.nextCheck) continue
    const due = half.checks >= settings.checkMax ? giveUp : ask
    if (due.length < dueChecksMax) due.push(half)
  }
  return { ask, giveUp }
}

/** Those that lie in one stored batch are asked about in one question. */
export function byStoredBatch(halves: readonly Half[]): readonly (readonly [Half, ...Half[]])[] {
  const groups = new Map<string, [Half, ...Half[]]>()
  for (const half of halves) {
    const key = `${half.atIndex} ${half.producerGroup}`
    const known = groups.get(key)
    if (known) known.push(half)
    else groups.set(key, [half])
  }
  return [...groups.values()]
}
