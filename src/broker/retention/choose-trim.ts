/**
 * Which segments of the log may go: the decision of the leader, from facts that its caller collects. Pure.
 *
 * Only sealed segments go, the oldest first, and never one that a follower within its bound still needs. As in
 * RocketMQ (CleanCommitLogService) age is counted from the newest message of a segment, and use of the disk beyond its
 * limit takes the oldest segments whatever their age.
 */
import type { SegmentInfo } from '../../../store/index.ts'
import { followerLagBytesMax, type RetentionSettings } from './settings.ts'

/** Segments that one round gives up (`deleteFilesBatchMax`): the disk is not flooded with deletions. */
export const segmentsPerRoundMax = 10

export interface RetentionFacts {
  readonly settings: RetentionSettings
  /** All segments of the own log, oldest first. */
  readonly segments: readonly SegmentInfo[]
  /** How many of the oldest segments hold only messages past their time. */
  readonly expiredCount: number
  /** End of the own log. */
  readonly endPosition: number
  readonly space: { readonly totalBytes: number; readonly freeBytes: number }
  /** With less than this free a full disk stays full, and writes stay refused; 0 while the reserve is held. */
  readonly wantedFreeBytes: number
  /** Last entry that the own state machine has applied. */
  readonly appliedIndex: number
  /** Followers and learners that are reachable. */
  readonly followers: readonly { readonly node: string; readonly matchIndex: number }[]
}

export type TrimReason = 'age' | 'bytes' | 'disk'

export interface TrimChoice {
  /** Where the log begins afterwards. */
  readonly firstIndex: number
  readonly reason: TrimReason
  /** Followers that lose entries which they still need: they get a copy. */
  readonly leftBehind: readonly string[]
}

/** Null when everything stays. */
export function chooseTrim(facts: RetentionFacts): TrimChoice | null {
  const wanted = mostOf([
    { reason: 'disk', count: countForDisk(facts) },
    { reason: 'bytes', count: countForBytes(facts) },
    { reason: 'age', count: facts.expiredCount },
  ])
  const sealed = facts.segments.filter((segment) => segment.sealed).length
  const count = Math.min(wanted.count, sealed, segmentsPerRoundMax, neededFrom(facts), appliedCount(facts))
  const first = facts.segments[count]
  if (count === 0 || !first) return null
  const { firstIndex } = first
  const leftBehind = facts.followers.filter((follower) => follower.matchIndex + 1 < firstIndex)
  return { firstIndex, reason: wanted.reason, leftBehind: leftBehind.map((follower) => follower.node) }
}

interface Wanted {
  readonly reason: TrimReason
  readonly count: number
}

function mostOf(wishes: readonly [Wanted, ...Wanted[]]): Wanted {
  return wishes.reduce((most, wish) => (wish.count > most.count ? wish : most))
}

function countForDisk({ settings, segments, space, wantedFreeBytes }: RetentionFacts): number {
  const { diskUseMax } = settings
  const { totalBytes, freeBytes } = space
  // A full disk is beyond any limit, although what it lives on counts as free and may be much of a small disk.
  const missing = diskUseMax < 1 ? wantedFreeBytes - freeBytes : 0
  let tooMany = Math.max(missing, totalBytes - freeBytes - diskUseMax * totalBytes)
  let count = 0
  for (const segment of segments) {
    if (!(tooMany > 0)) break
    tooMany -= segment.bytes
    count++
  }
  return count
}

function countForBytes({ settings, segments, endPosition }: RetentionFacts): number {
  const { logBytesMax } = settings
  if (logBytesMax === null) return 0
  return segments.filter((segment) => endPosition - segment.base > logBytesMax).length
}

/**
 * How many segments are applied as a whole. Where the queues begin afterwards is read from the applied state: a
 * message that is applied later would be told to stay, while its entry goes.
 */
function appliedCount({ segments, appliedIndex }: RetentionFacts): number {
  return Math.max(
    0,
    segments.findLastIndex((segment) => segment.firstIndex <= appliedIndex + 1),
  )
}

/** How many segments no follower needs that is waited for. */
function neededFrom({ settings, segments, endPosition, space, followers }: RetentionFacts): number {
  const lagBytesMax = followerLagBytesMax(settings, space.totalBytes)
  let free = segments.length
  for (const { matchIndex } of followers) {
    const at = segments.findLastIndex((segment) => segment.firstIndex <= matchIndex + 1)
    const segment = segments[at]
    if (segment && endPosition - segment.base <= lagBytesMax) free = Math.min(free, at)
  }
  return free
}
