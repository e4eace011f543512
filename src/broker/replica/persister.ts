/**
 * Makes Readies durable, then lets their messages go. Owned by the replica loop, which adds Readies in order.
 *
 * Group commit: everything that came while the last sync ran is covered by the next one. Never reorders Readies and
 * never hands out a message of a Ready before that Ready and all earlier ones are on disk (S1): a vote or an
 * acknowledgement that a power cut can take back breaks every promise of Raft (section 5, "persistent state").
 */
import type { HardState, PeerMessage, Ready } from '../../../raft/index.ts'
import { type CommitLogApi, type HardStateApi, StoreError } from '../../../store/index.ts'
import { invariant } from '../../common/assert.ts'
import { type Clock, sleep } from '../../common/clock.ts'
import type { ReplicaLimits } from '../options.ts'

export interface PersisterPorts {
  readonly clock: Clock
  readonly log: CommitLogApi
  readonly hardState: HardStateApi
  readonly limits: ReplicaLimits
  /** All Readies up to this number are durable; these messages may leave now, in this order. */
  persisted(ready: number, messages: readonly PeerMessage[]): void
  /** Final: nothing that waits here will ever be durable. */
  failed(error: unknown): void
  /** The log has no space, or soon will not. */
  diskFull(): void
  slow(tookMs: number): void
}

export class Persister {
  readonly #ports: PersisterPorts
  readonly #queue: Ready[] = []
  #running = false
  #failed = false
  #saved: { readonly term: number; readonly vote: string | null }
  #wanted: HardState | null = null
  #idle: (() => void)[] = []

  constructor(ports: PersisterPorts) {
    this.#ports = ports
    const current = ports.hardState.current
    this.#saved = { term: current?.term ?? 0, vote: current?.vote ?? null }
  }

  /** The log changes of the Ready are staged already. */
  add(ready: Ready): void {
    if (this.#failed) return
    if (!this.#running && !ready.mustSync) {
      this.#ports.persisted(ready.number, ready.sendAfterPersist)
      return
    }
    this.#queue.push(ready)
    if (this.#running) return
    this.#running = true
    void this.#run()
  }

  /** Nothing leaves and nothing is written after this. */
  stop(): void {
    this.#failed = true
    this.#queue.length = 0
  }

  /** Resolves when nothing waits to become durable, also after a failure. */
  drained(): Promise<void> {
    if (!this.#running) return Promise.resolve()
    return new Promise((resolve) => this.#idle.push(resolve))
  }

  async #run(): Promise<void> {
    try {
      while (this.#queue.length > 0 && !this.#failed) await this.#persistQueued()
    } catch (error) {
      this.stop()
      this.#ports.failed(error)
    } finally {
      this.#running = false
      const idle = this.#idle
      this.#idle = []
      for (const resolve of idle) resolve()
    }
  }

  async #persistQueued(): Promise<void> {
    const batch: Ready[] = []
    this.#take(batch)
    while (this.#unsaved() && !this.#failed) await this.#saveTerm(batch)
    // No await between here and the start of the flush: what it covers has its term on disk.
    if (batch.some((ready) => ready.mustSync)) await this.#flush(batch)
    if (this.#failed) return
    const last = batch.at(-1)
    invariant(last !== undefined, 'S1: the persister runs only when a Ready waits')
    const messages = batch.flatMap((ready) => ready.sendAfterPersist)
    this.#ports.persisted(last.number, messages)
  }

  /** Saves the newest term and vote, then takes over what came meanwhile. */
  async #saveTerm(batch: Ready[]): Promise<void> {
    const wanted = this.#unsaved()
    if (!wanted) return
    invariant(wanted.term >= this.#saved.term, 'R1: a saved term never goes back')
    // Never claim a commit that the own disk cannot show after a power cut.
    const commit = Math.min(wanted.commit, this.#ports.log.durableIndex)
    await this.#ports.hardState.save({ term: wanted.term, vote: wanted.vote, commit })
    this.#saved = { term: wanted.term, vote: wanted.vote }
    this.#take(batch)
  }

  #take(batch: Ready[]): void {
    for (const ready of this.#queue.splice(0)) {
      batch.push(ready)
      if (ready.hardState) this.#wanted = ready.hardState
    }
  }

  #unsaved(): HardState | null {
    const wanted = this.#wanted
    return wanted && (wanted.term !== this.#saved.term || wanted.vote !== this.#saved.vote) ? wanted : null
  }

  /** One flush for all that is staged. A full disk is waited out: staged entries stay staged, nothing is lost. */
  async #flush(batch: Ready[]): Promise<void> {
    while (!this.#failed) {
      const startMs = this.#ports.clock.monotonicMs()
      try {
        await this.#ports.log.flush()
        const tookMs = this.#ports.clock.monotonicMs() - startMs
        if (tookMs > this.#ports.limits.slowFsyncMs) this.#ports.slow(tookMs)
        if (this.#ports.log.diskFull) this.#ports.diskFull()
        return
      } catch (error) {
        if (!(error instanceof StoreError) || error.code !== 'DISK_FULL') throw error
        this.#ports.diskFull()
        await sleep(this.#ports.clock, this.#ports.limits.diskFullRetryMs)
        this.#take(batch)
        while (this.#unsaved() && !this.#failed) await this.#saveTerm(batch)
      }
    }
  }
}
