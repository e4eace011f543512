/**
 * How fast followers make entries durable, as their leader sees it: the time from an append to its acknowledgement.
 * Pure; fed with what the replica sends and receives. Tells a leader with a slow disk whether another one is better.
 *
 * One append at a time is timed for each follower: enough to tell a slow disk from a quick one, at no cost per entry.
 */
import type { PeerMessage } from '../../../../raft/index.ts'

/** The slowest of so many counts: a slow disk answers quickly now and then. */
const samplesMax = 4

interface Pace {
  /** The append under way that is timed: it is answered when this entry is acknowledged. */
  timed: { readonly index: number; readonly atMs: number } | null
  tookMs: readonly number[]
}

export class PeerPace {
  readonly #paces = new Map<string, Pace>()

  sent(message: PeerMessage, nowMs: () => number): void {
    if (message.kind !== 'append' || message.entries.length === 0) return
    const pace = this.#paces.get(message.to) ?? { timed: null, tookMs: [] }
    this.#paces.set(message.to, pace)
    pace.timed ??= { index: message.prevIndex + message.entries.length, atMs: nowMs() }
  }

  received(message: PeerMessage, nowMs: () => number): void {
    if (message.kind !== 'append_response' || message.rejected !== null) return
    const pace = this.#paces.get(message.from)
    if (!pace?.timed || message.matchIndex < pace.timed.index) return
    pace.tookMs = [nowMs() - pace.timed.atMs, ...pace.tookMs].slice(0, samplesMax)
    pace.timed = null
  }

  /** What was seen as a leader before says nothing now. */
  forget(): void {
    this.#paces.clear()
  }

  /** Nothing of the last it did took longer than `slowMs`; also when nothing is known of it. */
  isQuick(node: string, slowMs: number, nowMs: number): boolean {
    const pace = this.#paces.get(node)
    if (!pace) return true
    const waitedMs = pace.timed === null ? 0 : nowMs - pace.timed.atMs
    return Math.max(waitedMs, ...pace.tookMs) <= slowMs
  }
}
