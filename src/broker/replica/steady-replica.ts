/**
 * The replica as handlers, registrar and housekeeper see it: one object for the life of the process, whatever
 * replica runs behind it. Fed by `lifecycle.ts`.
 *
 * While one replica has ended and the next has not begun, new work and current reads are refused at once, and
 * `running` says so to others; log and machine stay those of the last one, so that who holds their results can finish.
 * It decides nothing.
 */
import type { CommitLogApi, FrameType } from '../../../store/index.ts'
import { invariant } from '../../common/assert.ts'
import { LedgerError } from '../../common/errors.ts'
import type {
  Applied,
  ApplyResult,
  CommittedEntry,
  LeaderView,
  ProposeOptions,
  ReplicaApi,
  StateMachineApi,
} from '../contract.ts'

type AppliedListener = (entry: CommittedEntry, result: ApplyResult) => void

export class SteadyReplica implements ReplicaApi {
  readonly cluster: string
  readonly group: string
  readonly node: string
  readonly #appliedListeners = new Set<AppliedListener>()
  readonly #roleListeners = new Set<() => void>()
  /** The one that runs, or the last one. */
  #latest: ReplicaApi | null = null
  #running = false
  #removals: readonly (() => void)[] = []

  constructor(names: { readonly cluster: string; readonly group: string; readonly node: string }) {
    this.cluster = names.cluster
    this.group = names.group
    this.node = names.node
  }

  /** A replica begins. */
  attach(replica: ReplicaApi): void {
    this.#detach()
    this.#latest = replica
    this.#running = true
    this.#removals = [
      replica.onApplied((entry, result) => {
        for (const listener of this.#appliedListeners) listener(entry, result)
      }),
      replica.onRoleChanged(() => this.#notifyRole()),
    ]
    this.#notifyRole()
  }

  /** The replica ends: nothing new goes to it. */
  detach(): void {
    this.#detach()
    this.#notifyRole()
  }

  get incarnation(): string {
    return this.#known.incarnation
  }

  get log(): CommitLogApi {
    return this.#known.log
  }

  get machine(): StateMachineApi {
    return this.#known.machine
  }

  get commitIndex(): number {
    return this.#known.commitIndex
  }

  get appliedIndex(): number {
    return this.#known.appliedIndex
  }

  get term(): number {
    return this.#known.term
  }

  get running(): boolean {
    return this.#running && this.#known.running
  }

  get leading(): boolean {
    return this.#running && this.#known.leading
  }

  get nodes(): readonly { readonly node: string; readonly address: string }[] {
    return this.#known.nodes
  }

  leader(): LeaderView | null {
    return this.#running ? this.#known.leader() : null
  }

  propose(type: FrameType, body: readonly Uint8Array[], options: ProposeOptions): Promise<Applied> {
    return this.#running ? this.#known.propose(type, body, options) : Promise.reject(absent())
  }

  readCurrent(options: ProposeOptions): Promise<void> {
    return this.#running ? this.#known.readCurrent(options) : Promise.reject(absent())
  }

  onApplied(listener: AppliedListener): () => void {
    this.#appliedListeners.add(listener)
    return () => this.#appliedListeners.delete(listener)
  }

  onRoleChanged(listener: () => void): () => void {
    this.#roleListeners.add(listener)
    return () => this.#roleListeners.delete(listener)
  }

  get #known(): ReplicaApi {
    invariant(this.#latest !== null, 'handlers are bound when the first replica runs, not before')
    return this.#latest
  }

  #detach(): void {
    this.#running = false
    for (const remove of this.#removals) remove()
    this.#removals = []
  }

  #notifyRole(): void {
    for (const listener of this.#roleListeners) listener()
  }
}

function absent(): LedgerError {
  return new LedgerError('SERVICE_NOT_AVAILABLE', 'this replica starts again with a copy of the group’s log')
}
