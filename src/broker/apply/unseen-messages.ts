/** Applying commands about messages that are stored and not visible yet. Called by `commands.ts`. */
import type { ApplyResult } from '../contract.ts'
import type { NoteChecks, RecallTimer, RollBack } from './pending-commands.ts'
import { type Refusal, refusal } from './result.ts'
import type { Tables } from './tables.ts'

/** A transaction that was resolved before keeps its outcome, and the answer says which. */
export function rollBack(tables: Tables, { sources }: RollBack, index: number): ApplyResult {
  tables.halves.resolve(sources, 'rolled_back', index)
  return { kind: 'resolved', outcomes: sources.map((source) => tables.halves.outcome(source) ?? null) }
}

export function noteChecks(tables: Tables, { sources, intervalMs }: NoteChecks, logTime: number): ApplyResult {
  return { kind: 'checked', checks: sources.map((source) => tables.halves.noteCheck(source, logTime, intervalMs)) }
}

export function recallTimer(tables: Tables, { topicId, queue, timer }: RecallTimer, index: number): ApplyResult {
  return { kind: 'recalled', done: tables.timers.recall({ topicId, queue }, timer, index) }
}

/** Why the log cannot be given up before this entry: messages that nobody has seen yet lie there only. */
export function findPinned(tables: Tables, firstIndex: number): Refusal | null {
  if (firstIndex === 0) return null
  const half = tables.halves.firstIndex()
  if (half !== null && half < firstIndex) return refusal('SUPERSEDED', `entry ${half} holds an open transaction`)
  if (tables.timers.pending === 0 || tables.timers.carriedUpTo >= firstIndex - 1) return null
  return refusal('SUPERSEDED', `timers were carried up to ${tables.timers.carriedUpTo} only, not ${firstIndex - 1}`)
}
