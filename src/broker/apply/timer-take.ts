/**
 * Whether timers may be taken from their queue, by a delivery that names them. Called by `deliveries.ts`. Pure.
 *
 * What it cannot see is a timer that is neither named nor left: the leader answers for it.
 */
import { compareTimers, type TimerKey } from '../../message/extensions.ts'
import { type Refusal, refusal } from './result.ts'
import { TimerList } from './timer-list.ts'
import type { Taken } from './timer-queue.ts'
import type { TimerTable, TimerTarget } from './timers.ts'

/** Timers of one queue that deliveries have left: more of them hold up what lies behind. */
export const leftTimersMax = 1024

export interface TimerTake extends Taken {
  /** Entry by which timers of this queue were delivered last, 0 before any. */
  readonly after: number
}

type Timers = Pick<TimerTable, 'takenAt' | 'isPending' | 'leftCount'>

/** Why these timers may not be taken by this entry, or null. */
export function findTakeProblem(
  timers: Timers,
  target: TimerTarget,
  take: TimerTake,
  entry: { readonly index: number; readonly storeTime: number },
): Refusal | null {
  const { sources, after, asOf } = take
  if (sources.length === 0) return refusal('INVALID_PARAMETER', 'the delivery names no timer')
  const takenAt = timers.takenAt(target)
  if (after !== takenAt || asOf < takenAt) return superseded('timers were delivered meanwhile')
  if (asOf >= entry.index) return refusal('INVALID_PARAMETER', `as of ${asOf}, behind the entry itself`)
  if (sources.some(({ time }) => time > entry.storeTime))
    return refusal('INVALID_PARAMETER', 'a timer is delivered before its time')
  return findWrong(timers, target, sources, asOf) ?? findLeftProblem(timers, target, take)
}

function findWrong(timers: Timers, target: TimerTarget, keys: readonly TimerKey[], asOf: number): Refusal | null {
  for (const [at, key] of keys.entries()) {
    const previous = keys[at - 1]
    if (previous && compareTimers(previous, key) >= 0)
      return refusal('INVALID_PARAMETER', 'the timers of a delivery are not in order')
    if (key.index > asOf) return refusal('INVALID_PARAMETER', `a timer came later than entry ${asOf}`)
    if (!timers.isPending(target, key)) return superseded('a timer of the delivery was recalled')
  }
  return null
}

function findLeftProblem(timers: Timers, target: TimerTarget, { sources, left, asOf }: TimerTake): Refusal | null {
  if (left.length === 0) return null
  const last = sources.at(-1) as TimerKey
  const delivered = new TimerList()
  delivered.addAll(sources)
  if (left.some((key) => compareTimers(key, last) > 0 || delivered.has(key)))
    return refusal('INVALID_PARAMETER', 'a timer is left that is delivered, or lies behind the delivery')
  const count = left.length + timers.leftCount(target)
  if (count > leftTimersMax) return refusal('INVALID_PARAMETER', `${count} timers of a queue are left`)
  return findWrong(timers, target, left, asOf)
}

function superseded(message: string): Refusal {
  return refusal('SUPERSEDED', message)
}
