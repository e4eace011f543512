/**
 * Compares a log that was just opened with what hard state, state machine and records prove that it once held. Pure;
 * called by `recovery.ts`, which decides what follows.
 *
 * Nothing here may take a loss for something that the group gave up.
 */
import type { CommitLogApi, LogHole, SavedHardState } from '../../../../store/index.ts'
import type { LogRange } from '../../../rpc/methods.ts'
import type { Trimmed } from '../../apply/trim-table.ts'
import type { Generations } from '../generations.ts'

/** True when nothing of the hole can be had from anyone. */
export function isLost(hole: Pick<LogHole, 'fromIndex' | 'toIndex'>, lost: readonly LogRange[]): boolean {
  return lost.some(({ fromIndex, toIndex }) => fromIndex <= hole.fromIndex && hole.toIndex <= toIndex)
}

/**
 * What is still missing of ranges that were lost. Where no hole is any more the log was cut, trimmed or copied since:
 * what stands there in their place is not lost, and has to be put back when it rots.
 */
export function stillLost(
  lost: readonly LogRange[],
  holes: readonly Pick<LogHole, 'fromIndex' | 'toIndex'>[],
): readonly LogRange[] {
  const parts = lost.flatMap((range) =>
    holes.map((hole) => ({
      fromIndex: Math.max(range.fromIndex, hole.fromIndex),
      toIndex: Math.min(range.toIndex, hole.toIndex),
    })),
  )
  return parts.filter(({ fromIndex, toIndex }) => fromIndex <= toIndex)
}

/** True when both name the same ranges in the same order. */
export function areSame(one: readonly LogRange[], other: readonly LogRange[]): boolean {
  return (
    one.length === other.length &&
    one.every(({ fromIndex, toIndex }, at) => other[at]?.fromIndex === fromIndex && other[at]?.toIndex === toIndex)
  )
}

/**
 * Compares where the log ends with what hard state and state store prove that it once held. A log that ends too early
 * may lack what this node had acknowledged; holes inside it may not: their indexes are known.
 */
export function findDamage(
  log: Pick<CommitLogApi, 'rottenTail' | 'lastIndex'>,
  saved: SavedHardState,
  appliedIndex: number,
): string | null {
  const tail = log.rottenTail
  if (tail) return `${tail.reason} at position ${tail.position}, from entry ${tail.fromIndex} on`
  const committed = Math.max(saved.commit, appliedIndex)
  return committed > log.lastIndex ? `it ends at ${log.lastIndex}, but ${committed} was committed here` : null
}

/**
 * Why the beginning of the log is lost, null when it is where it belongs. The first segment file is the only record
 * of where a log begins, so files that are gone look like a trim: only one that the state machine knows of, or that
 * was before this log was copied, counts. A log that begins earlier was trimmed, but not deleted yet.
 *
 * Of an empty state store nothing can be said: it is asked again once a state was copied.
 */
export function findLostFront(
  firstIndex: number,
  state: { readonly appliedIndex: number; readonly trimmed: Trimmed },
  generations: Generations,
): string | null {
  if (state.appliedIndex === 0) return null
  const givenUp = Math.max(1, state.trimmed.firstIndex, generations.logFirstIndex ?? 1)
  return firstIndex > givenUp ? `its first segments are lost: it begins at ${firstIndex}, not at ${givenUp}` : null
}

/**
 * The first entry of damage whose terms nobody here knows and that may never have been committed, null without any.
 * A log must not vote, nor be compared with a leader's, on guessed terms, and it cannot be cut inside a hole: whoever
 * gets an index gives up the log from there on, as if its end were rotten.
 */
export function findUnplaced(
  holes: readonly LogHole[],
  committed: number,
  lost: readonly LogRange[],
): { readonly fromIndex: number; readonly reason: string } | null {
  const hole = holes.find((each) => !each.termsKnown && each.toIndex > committed && !isLost(each, lost))
  if (!hole) return null
  const { fromIndex, toIndex, reason } = hole
  return { fromIndex, reason: `${reason}: nobody can say of which term entries ${fromIndex} to ${toIndex} were` }
}

/**
 * The damage that a leader gave up (`QuarantineRecord.cutFrom`), null when there is none any more: it was cut, or put
 * back, before the last stop. Damage that has grown begins earlier. All behind it was given up with it.
 */
export function findGivenUp(
  holes: readonly LogHole[],
  cutFrom: number | undefined,
): { readonly fromIndex: number } | null {
  return holes.find(({ toIndex }) => cutFrom !== undefined && toIndex >= cutFrom) ?? null
}
