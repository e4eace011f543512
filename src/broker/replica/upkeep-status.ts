/** What a status reply tells of copies, holes and the scrub. Called by `upkeep.ts`. */
import type { LogHole } from '../../../store/index.ts'
import type { CopyStatus, LogRange, ScrubProgress } from '../../rpc/methods.ts'
import type { ScrubStatus } from '../scrubber.ts'
import type { CatchUpStatus } from './catch-up/catch-up.ts'
import type { Quarantine } from './repair/quarantine.ts'

export interface UpkeepStatus {
  readonly catchUp?: CopyStatus
  /** Why this node must not vote; empty when it may. */
  readonly quarantine: string
  /** Entries that cannot be read here now. */
  readonly holes: readonly LogRange[]
  /** Entries that no member can read. */
  readonly lost: readonly LogRange[]
  readonly scrub?: ScrubProgress
}

export function upkeepStatus(facts: {
  readonly catchUp: CatchUpStatus | null
  readonly scrub: ScrubStatus | null
  readonly quarantine: Quarantine | null
  readonly holes: readonly LogHole[]
}): UpkeepStatus {
  const { catchUp, scrub, quarantine, holes } = facts
  return {
    ...(catchUp ? { catchUp } : {}),
    quarantine: quarantine?.reason ?? '',
    holes: holes.map(({ fromIndex, toIndex }) => ({ fromIndex, toIndex })),
    lost: quarantine?.lost ?? [],
    ...(scrub ? { scrub } : {}),
  }
}

/** The same for people, in one line; null when there is nothing to tell. */
export function upkeepReason({ catchUp, quarantine, holes }: UpkeepStatus): string | null {
  if (quarantine !== '') return `QUARANTINED: does not vote, ${holes.length} holes: ${quarantine}`
  if (!catchUp) return null
  const { source, phase, fetchedBytes, totalBytes, problem } = catchUp
  if (phase === 'space') return 'CATCHING_UP: waits, because the disk is full'
  if (problem !== '') return `CATCHING_UP: nothing can be copied now: ${problem}`
  if (source === '') return 'CATCHING_UP: no replica can be copied from now'
  const percent = totalBytes === 0 ? 0 : Math.floor((fetchedBytes / totalBytes) * 100)
  return `CATCHING_UP: copies the ${phase} of ${source}, ${percent} % of ${totalBytes} bytes`
}
