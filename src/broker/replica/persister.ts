/**
 * Makes Readies durable, then lets their messages go. Owned by the replica loop, which adds Readies in order.
 *
 * Group commit: everything that came while the last sync ran is covered by the next one. Never reorders Readies and
 * never hands out a message of a Ready before that Ready and all earlier ones are on disk (S1): a vote or an
 * acknowledgement that a power cut can take back breaks every promise of Raft (section 5, "persistent state").
 *
 * One exception while the log waits for space: an answer that promises term and vote alone leaves when these are on
 * disk. A grant stays safe: it was given by the staged log, which holds all that this node ever acknowledged.
 */
import type { HardState, PeerMessage, Ready } from '../../../raft/index.ts'
import { type CommitLogApi, type HardStateApi, StoreError } from '../../../store/index.ts'
import { invariant } from '../../common/assert.ts'
import { type Clock, sleep } from '../../common/clock.ts'
import type { ReplicaLimits } from '../options.ts'
import type { SpacePatience } from './space-patience.ts'

export interface PersisterPorts {
  readonly clock: Clock
  readonly log: CommitLogApi
  readonly hardState: HardStateApi
  readonly limits: ReplicaLimits
  /** All Readies up to this number are durable; these messages may leave now, in this order. */
  persisted(ready: number, messages: readonly PeerMessage[]): void
  /** Of Readies whose log is not durable yet, but their term and vote are; these messages depend on nothing else. */
  released(messages: readonly PeerMessage[]): void
  /** Final: nothing that waits here will ever be durable. */
  failed(error: unknown): void
  /** The log has no space, or soon will not. */
  diskFull(): void
  readonly patience: SpacePatience
  /**
   * What is staged found no space for too long. What would make some, and the own vote, come behind it in the log, so
   * waiting may be in vain: whoever is told stops this and begins again with what is durable.
   */
  staysFull(): void
  flushBegan(): void
  /** Also when it failed. */
  flushEnded(): void
}

/** Readies that become durable together. */
interface Batch {
  last: number
  mustSync: boolean
  messages: PeerMessage[]
}

export class Persister {
  readonly #ports: PersisterPorts
  readonly #queue: Ready[] = []
  #running = false
  #failed = false
  #saved: { readonly term: number; readonly vote: string | null }
  #wanted: HardState | null = null
  #recorded: Promise<void> | null = null
  #idle: (() => void)[] = []
  /** Ends the wait for the next Ready. */
  #arrived: () => void = () => {}

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
    this.#arrived()
    if (this.#running) return
    this.#running = true
    void this.#run()
  }

  /** What is staged from now on is flushed, and spoken of, only when this is fulfilled; it fails with it. */
  after(recorded: Promise<void>): void {
    const before = this.#recorded ?? Promise.resolve()
    const both = Promise.all([before, recorded]).then(() => {})
    // Whoever waits for it is told.
    both.catch(() => {})
    this.#recorded = both
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
    invariant(this.#queue.length > 0, 'S1: the persister runs only when a Ready waits')
    const batch: Batch = { last: 0, mustSync: false, messages: [] }
    this.#take(batch)
    await this.#saveRecords(batch)
    // No await between here and the start of the flush: what it covers has its term on disk.
    if (batch.mustSync) await this.#flush(batch)
    if (this.#failed) return
    this.#ports.persisted(batch.last, batch.messages)
  }

  /** Afterwards everything in the batch may be flushed: its term and vote are on disk, and what it waits for. */
  async #saveRecords(batch: Batch): Promise<void> {
    while (!this.#failed) {
      const recorded = this.#recorded
      if (recorded) {
        await recorded
        if (this.#recorded === recorded) this.#recorded = null
        this.#take(batch)
      } else if (this.#unsaved()) await this.#saveTerm(batch)
      else return
    }
  }

  /** Saves the newest term and vote, then takes over what came meanwhile. */
  async #saveTerm(batch: Batch): Promise<void> {
    const wanted = this.#unsaved()
    if (!wanted) return
    invariant(wanted.term >= this.#saved.term, 'R1: a saved term never goes back')
    // Never claim a commit that the own disk cannot show after a power cut.
    const commit = Math.min(wanted.commit, this.#ports.log.durableIndex)
    await this.#ports.hardState.save({ term: wanted.term, vote: wanted.vote, commit })
    this.#saved = { term: wanted.term, vote: wanted.vote }
    this.#take(batch)
  }

  #take(batch: Batch): void {
    for (const ready of this.#queue.splice(0)) {
      batch.last = ready.number
      batch.mustSync ||= ready.mustSync
      batch.messages.push(...ready.sendAfterPersist)
      if (ready.hardState) this.#wanted = ready.hardState
    }
  }

  #unsaved(): HardState | null {
    const wanted = this.#wanted
    return wanted && (wanted.term !== this.#saved.term || wanted.vote !== this.#saved.vote) ? wanted : null
  }

  /** One flush for all that is staged. While the disk is full they stay staged, as long as there is patience. */
  async #flush(batch: Batch): Promise<void> {
    const { log, patience } = this.#ports
    let refusals = 0
    let durableIndex = log.durableIndex
    while (!this.#failed) {
      try {
        this.#ports.flushBegan()
        await log.flush().finally(() => this.#ports.flushEnded())
        if (log.diskFull) this.#ports.diskFull()
        return
      } catch (error) {
        if (!(error instanceof StoreError) || error.code !== 'DISK_FULL') throw error
        this.#ports.diskFull()
        refusals = log.durableIndex > durableIndex ? 0 : refusals + 1
        durableIndex = log.durableIndex
        const isStanding = batch.messages.some(({ kind, term }) => kind === 'vote_request' && term === this.#saved.term)
        if (refusals >= (isStanding ? patience.refusalsMin : patience.refusalsMax)) this.#ports.staysFull()
        await this.#waitForSpace(batch)
      }
    }
  }

  /** Votes and signs of life go on meanwhile: without them a full follower would cost the group its leader. */
  async #waitForSpace(batch: Batch): Promise<void> {
    let isOver = false
    const retry = sleep(this.#ports.clock, this.#ports.limits.diskFullRetryMs).then(() => {
      isOver = true
    })
    while (!isOver && !this.#failed) {
      this.#release(batch)
      const arrival = new Promise<void>((resolve) => {
        this.#arrived = resolve
      })
      await Promise.race([retry, arrival])
      this.#take(batch)
      await this.#saveRecords(batch)
    }
  }

  #release(batch: Batch): void {
    invariant(this.#unsaved() === null, 'R1: an answer leaves before its term and vote are on disk')
    const released = batch.messages.filter(promisesTermOnly)
    if (released.length === 0) return
    batch.messages = batch.messages.filter((message) => !promisesTermOnly(message))
    this.#ports.released(released)
  }
}

/** An own vote request is none of these: it names the end of the own log, and so does every accepted append. */
function promisesTermOnly({ kind }: PeerMessage): boolean {
  return kind === 'vote_response' || kind === 'pre_vote_response' || kind === 'heartbeat_response'
}
