/**
 * One attempt to fill one hole: asks the members that can be reached, one after the other. Called by `healer.ts`,
 * which repeats it and draws the conclusions.
 *
 * Committed entries come first. The store checks the chain behind a hole only with its last frame, so the beginning
 * of a branch that was never committed may fit where the terms are not known, and would keep the true rest out for
 * ever: what a member does not know to be committed is asked for only where it knows of nothing that is.
 */
import { type CommitLogApi, type LogHole, StoreError, splitFrames } from '../../../../store/index.ts'
import { LedgerError } from '../../../common/errors.ts'
import type { LogRange } from '../../../rpc/methods.ts'
import type { CopySourceView } from '../catch-up/planner.ts'
import type { Sources } from '../catch-up/sources.ts'

export interface FillerPorts {
  readonly log: Pick<CommitLogApi, 'holes' | 'repair'>
  readonly sources: Pick<Sources, 'nodes' | 'fetchLog' | 'failed' | 'served'>
  /** What the own state machine has applied. */
  appliedIndex(): number
}

/** What asking all others for one hole came to. */
export type FillOutcome =
  | { readonly kind: 'repaired' }
  /** Every member was asked, and has the first entry of this rotten, too, or never had it although it was applied. */
  | { readonly kind: 'lost'; readonly range: LogRange }
  /** Whoever can be reached has committed entries that do not follow the own ones, or none that old any more. */
  | { readonly kind: 'misfit'; readonly reason: string }
  /** Somebody who may have it gave no answer, or the own disk has no space for it. */
  | { readonly kind: 'unknown'; readonly reason: string }

/** What one member had to give for the first entry of the hole. */
type Answer =
  | { readonly kind: 'rotten' }
  | { readonly kind: 'misfit'; readonly reason: string }
  | { readonly kind: 'failed'; readonly reason: string }
  /** It has nothing there that follows, committed or not. */
  | { readonly kind: 'behind' }
  /** It gave what was asked of it, and the own log could not take it now: nobody else's would fare better. */
  | { readonly kind: 'refused'; readonly reason: string }

interface Asked {
  readonly view: CopySourceView
  readonly toIndex: number
  readonly uncommitted: boolean
}

/** `views` are the members that have just described themselves. Throws what the own disk fails at. */
export async function fillHole(
  ports: FillerPorts,
  hole: Pick<LogHole, 'fromIndex' | 'toIndex'>,
  views: readonly CopySourceView[],
  signal: AbortSignal,
): Promise<FillOutcome> {
  for (let next = firstOpen(ports.log, hole); next !== null; ) {
    const answers = await askAll(ports, hole, views, signal)
    const left = firstOpen(ports.log, hole)
    if (left === null) break
    const refused = [...answers.values()].find((answer) => answer.kind === 'refused')
    if (refused) return { kind: 'unknown', reason: refused.reason }
    if (left === next) return conclude(ports, { fromIndex: next, toIndex: hole.toIndex }, views, answers)
    // Who had an entry rotten may have the next ones whole: its answer says nothing about what is missing now.
    next = left
  }
  return { kind: 'repaired' }
}

/** Each member once. When nothing was put back, all answers are about the same entry. */
async function askAll(
  ports: FillerPorts,
  hole: LogRange,
  views: readonly CopySourceView[],
  signal: AbortSignal,
): Promise<ReadonlyMap<string, Answer>> {
  const answers = new Map<string, Answer>()
  for (const uncommitted of [false, true]) {
    for (const view of views) {
      const next = firstOpen(ports.log, hole)
      if (next === null) return answers
      const isCommitted = view.lastIndex >= next
      if (isCommitted === uncommitted) continue
      const toIndex = uncommitted ? hole.toIndex : Math.min(hole.toIndex, view.lastIndex)
      const answer = await ask(ports, hole, { view, toIndex, uncommitted }, signal)
      if (answer) answers.set(view.node, answer)
      if (answer?.kind === 'refused') return answers
    }
  }
  return answers
}

/** First entry of the hole that is still missing; a hole shrinks from its beginning. */
export function firstOpen(log: Pick<CommitLogApi, 'holes'>, { fromIndex, toIndex }: LogRange): number | null {
  const left = log.holes.find((hole) => hole.toIndex >= fromIndex && hole.fromIndex <= toIndex)
  return left ? Math.max(left.fromIndex, fromIndex) : null
}

/** Null when it gave all that it was asked for. */
async function ask(ports: FillerPorts, hole: LogRange, asked: Asked, signal: AbortSignal): Promise<Answer | null> {
  const { view, uncommitted } = asked
  const { node } = view
  const next = firstOpen(ports.log, hole)
  if (next !== null && next < view.firstIndex)
    return { kind: 'misfit', reason: `${node}: begins at ${view.firstIndex}` }
  try {
    return await fill(ports, hole, asked, signal)
  } catch (error) {
    signal.throwIfAborted()
    if (isOwnFailure(error)) throw error
    const what = error instanceof Error ? error.message : String(error)
    // A full disk, or a hole that changed meanwhile.
    if (error instanceof StoreError && error.code !== 'BAD_FRAME') return { kind: 'refused', reason: `here: ${what}` }
    const reason = `${node}: ${what}`
    // It does answer: no reason to leave it alone.
    if (error instanceof StoreError && error.code === 'BAD_FRAME')
      return uncommitted ? { kind: 'behind' } : { kind: 'misfit', reason }
    ports.sources.failed(node, error)
    return { kind: 'failed', reason }
  }
}

async function fill(
  { log, sources }: FillerPorts,
  hole: LogRange,
  { view, toIndex, uncommitted }: Asked,
  signal: AbortSignal,
): Promise<Answer | null> {
  for (let next = firstOpen(log, hole); next !== null && next <= toIndex; next = firstOpen(log, hole)) {
    const reply = await sources.fetchLog(view.node, { fromIndex: next, toIndex, uncommitted }, signal)
    const frames = splitFrames(reply.frames)
    if (frames.length === 0 && !reply.rotten && !uncommitted)
      throw new LedgerError('DATA_LOSS', `it does not have entry ${next}`)
    sources.served(view.node)
    if (reply.rotten) return { kind: 'rotten' }
    if (frames.length === 0) return { kind: 'behind' }
    await log.repair(frames)
  }
  return null
}

function conclude(
  ports: FillerPorts,
  range: LogRange,
  views: readonly CopySourceView[],
  answers: ReadonlyMap<string, Answer>,
): FillOutcome {
  const { nodes } = ports.sources
  const applied = Math.max(ports.appliedIndex(), ...views.map(({ appliedIndex }) => appliedIndex))
  const all = [...answers.values()]
  // Whoever does not have an entry may be right: it was never committed, and gets replaced. One that was applied was
  // committed, and whoever lacks it will not get it from anyone: waiting for it, no majority might ever vote again.
  const isGone = (node: string): boolean => {
    const kind = answers.get(node)?.kind
    return kind === 'rotten' || (kind === 'behind' && range.toIndex <= applied)
  }
  // What lies behind the first lost entries cannot be placed, but whoever has it whole can serve it.
  if (nodes.length > 0 && nodes.every(isGone)) return { kind: 'lost', range }
  const failure = all.find(({ kind }) => kind === 'failed')
  const misfit = all.find((answer) => answer.kind === 'misfit')
  if (misfit && !failure) return misfit
  const reason = failure?.kind === 'failed' ? failure.reason : 'no member that can be reached gives it'
  return { kind: 'unknown', reason }
}

/** Frames that do not fit are the peer's fault, a hole that changed is nobody's; anything else is the own disk's. */
function isOwnFailure(error: unknown): boolean {
  if (error instanceof LedgerError) return false
  if (!(error instanceof StoreError)) return true
  return error.code === 'STORAGE_FAILED' || error.code === 'CLOSED'
}
