/**
 * Decides what a catch-up does next: what is missing, and from whom it can come. Pure; asked by `catch-up.ts` before
 * every step, so that sources may come, go and be trimmed in between.
 *
 * Log first, then the state, then what the log has grown by meanwhile: the state must lie within the log that it
 * goes with, and a late image leaves the least to be applied.
 */
import type { EntryId } from '../../../../raft/index.ts'
import type { LogOrigin } from '../../../../store/index.ts'
import type { LogEnd } from '../generations.ts'

/** A member as it last described itself. */
export interface CopySourceView {
  readonly node: string
  readonly firstIndex: number
  readonly origin: LogOrigin
  /** Last entry that it gives. */
  readonly lastIndex: number
  readonly endPosition: number
  /** 0: no state to give. */
  readonly appliedIndex: number
  readonly leads: boolean
}

/** What is there of the copy. */
export interface CopyProgress {
  /** Null: not begun. */
  readonly log: {
    readonly origin: LogOrigin
    readonly lastIndex: number
    readonly endPosition: number
  } | null
  /** Index of the state that was copied whole; null before. */
  readonly stateIndex: number | null
}

/** The replica that is to be replaced, as it is now. */
export interface OwnReplica {
  /** 0 when there is nothing to replace. */
  readonly lastIndex: number
  /** False: its entry at the end of the copy is another one, so what it holds from there on was never committed. */
  readonly agrees: boolean
}

/** The log that a state alone is to go with. */
export interface OwnLog {
  readonly lastIndex: number
  /** Committed, and on the own disk. */
  readonly committed: number
  /** The entry at the end of the copy is on the own disk. */
  readonly holdsEnd: boolean
}

export type CopyStep =
  /** Nothing can be had now. */
  | { readonly kind: 'wait'; readonly reason: string }
  | { readonly kind: 'begin'; readonly node: string; readonly origin: LogOrigin }
  | { readonly kind: 'log'; readonly node: string; readonly fromIndex: number; readonly toIndex: number }
  | { readonly kind: 'state'; readonly node: string }
  /** Ask which entry was committed there. */
  | { readonly kind: 'entry'; readonly node: string; readonly index: number }
  /** The copy that was begun leads nowhere: throw it away. */
  | { readonly kind: 'discard'; readonly reason: string }
  | { readonly kind: 'install' }

/**
 * `sources` are those that may be asked now, the preferred ones first. `nearBytes` of log may be missing when the
 * state is copied and when the copy is put in force: the leader sends the rest.
 */
export function planCopy(
  progress: CopyProgress,
  own: OwnReplica,
  sources: readonly CopySourceView[],
  nearBytes: number,
): CopyStep {
  const { log, stateIndex } = progress
  if (sources.length === 0) return { kind: 'wait', reason: 'no other replica can be reached' }
  if (log === null) return planBeginning(sources)
  const next = log.lastIndex + 1
  const giving = sources.find(({ firstIndex, lastIndex }) => firstIndex <= next && next <= lastIndex)
  if (giving && (missingBytes(log, sources) > nearBytes || log.lastIndex < (stateIndex ?? 0)))
    return logStep(giving, next)
  // Others that are as far behind do not count: they cannot get this entry any more either, and would wait for us.
  if (!giving && sources.some(({ firstIndex }) => firstIndex > next)) {
    return { kind: 'discard', reason: `entry ${next} is gone from every replica that could give it` }
  }
  if (stateIndex === null) return planState(log, sources)
  if (stateIndex > log.lastIndex) return { kind: 'wait', reason: `nobody gives entry ${next}` }
  if (log.lastIndex >= own.lastIndex || !own.agrees) return { kind: 'install' }
  if (giving) return logStep(giving, next)
  return { kind: 'wait', reason: `the own log ends at ${own.lastIndex}, the copy at ${log.lastIndex}` }
}

/**
 * Begins where the first one that has a state begins, unless the log of the most advanced one has gone on without a
 * trace of that: a copy that nobody can complete would only be thrown away.
 */
function planBeginning(sources: readonly CopySourceView[]): CopyStep {
  const best = sources.reduce((a, b) => (b.lastIndex > a.lastIndex ? b : a), sources[0] as CopySourceView)
  const chosen = sources.find(({ appliedIndex, lastIndex }) => appliedIndex > 0 && lastIndex + 1 >= best.firstIndex)
  if (!chosen) return { kind: 'wait', reason: 'no replica that can be reached has a whole state' }
  return { kind: 'begin', node: chosen.node, origin: chosen.origin }
}

function planState(log: NonNullable<CopyProgress['log']>, sources: readonly CopySourceView[]): CopyStep {
  const able = sources.find(({ appliedIndex }) => appliedIndex > 0 && appliedIndex >= log.origin.index)
  if (able) return { kind: 'state', node: able.node }
  return { kind: 'wait', reason: `no replica that can be reached has a state of ${log.origin.index} or later` }
}

/**
 * A state alone, of this index or later, for a log that is whole behind it. Best from a member that has trimmed its own
 * log as far: its state says so. One that does not would make the front of a trimmed log look lost.
 */
export function planStateOnly(stateFrom: number, sources: readonly CopySourceView[]): CopyStep {
  const all = sources.filter(({ appliedIndex }) => appliedIndex > 0 && appliedIndex >= stateFrom)
  const able = all.find(({ firstIndex }) => firstIndex > stateFrom) ?? all[0]
  if (able) return { kind: 'state', node: able.node }
  return { kind: 'wait', reason: `no replica that can be reached has a state of ${stateFrom} or later` }
}

/**
 * A state alone that was copied goes with a log that holds its last entry as it was committed. That the own replica
 * knows its log to be committed so far needs a leader, and the own log may be the only one that is long enough to lead,
 * while its node does not stand without a state. So a member that knows what was committed is asked, too: `end`, null
 * before it was.
 */
export function planStateEnd(
  stateIndex: number,
  own: OwnLog,
  end: EntryId | null,
  sources: readonly CopySourceView[],
): CopyStep {
  const isKnown = end?.index === stateIndex
  if (own.committed >= stateIndex || (isKnown && own.holdsEnd)) return { kind: 'install' }
  const reason = `the own log is known up to ${own.committed}, the state is of ${stateIndex}`
  if (isKnown || own.lastIndex < stateIndex) return { kind: 'wait', reason }
  const able = sources.find(({ firstIndex, lastIndex }) => firstIndex <= stateIndex && stateIndex <= lastIndex)
  return able ? { kind: 'entry', node: able.node, index: stateIndex } : { kind: 'wait', reason }
}

function logStep({ node, lastIndex }: CopySourceView, fromIndex: number): CopyStep {
  return { kind: 'log', node, fromIndex, toIndex: lastIndex }
}

function missingBytes(log: NonNullable<CopyProgress['log']>, sources: readonly CopySourceView[]): number {
  return Math.max(...sources.map(({ endPosition }) => endPosition)) - log.endPosition
}

/**
 * Whether a copy that ends at `copyEnd` may still take the place of the own log, which is `now` as it ended, and was
 * `planned` when the copy was found complete. What a replica has acknowledged meanwhile must be in the copy; a longer
 * log may go only if it is still the one whose end was never committed.
 */
export function mayReplace(copyEnd: number, planned: LogEnd, now: LogEnd): boolean {
  if (copyEnd >= now.lastIndex) return true
  return now.lastIndex === planned.lastIndex && now.lastTerm === planned.lastTerm
}
