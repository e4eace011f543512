/**
 * The node's ring of typed events: what happened to roles, votes, disk, routes and clients, and why.
 *
 * Written by the replica and the handlers, read by `WatchEvents`, the command line, the SDK's status and tests. The
 * ring is bounded: a reader that comes late misses the oldest, never the newest.
 */
import type { Clock } from '../common/clock.ts'
import type { NodeEvent } from '../rpc/methods.ts'

/** Kinds of events; details are strings so that every reader can print them. */
export type EventKind =
  | 'node_started'
  | 'node_stopping'
  | 'role_changed'
  | 'vote_cast'
  | 'leader_elected'
  | 'leader_changed'
  | 'term_started'
  | 'stalled'
  | 'transfer_ended'
  | 'peer_connected'
  | 'peer_lost'
  | 'peer_refused'
  | 'route_published'
  | 'slow_fsync'
  | 'leader_unfit'
  | 'leader_fit'
  | 'clock_off'
  | 'storage_failed'
  | 'disk_full'
  | 'disk_space_back'
  | 'staged_forgotten'
  | 'log_recovered'
  | 'state_rebuilt'
  | 'trim_proposed'
  | 'log_trimmed'
  | 'follower_left_behind'
  | 'client_joined'
  | 'client_left'
  | 'rebalance'
  | 'configuration_committed'
  | 'member_added'
  | 'member_removed'
  | 'member_promoted'
  | 'quarantine_started'
  | 'quarantine_ended'
  | 'catch_up_started'
  | 'catch_up_progress'
  | 'catch_up_finished'
  | 'catch_up_failed'
  | 'rot_found'
  | 'rot_repaired'
  | 'rot_cut'
  | 'data_loss'

export interface EventSink {
  emit(kind: EventKind, term: number, details: Readonly<Record<string, string | number | null>>): void
}

export const eventRingSize = 10_000

export class EventRing implements EventSink {
  readonly #clock: Clock
  readonly #group: string
  readonly #node: string
  readonly #capacity: number
  readonly #events: NodeEvent[] = []
  readonly #listeners = new Set<(event: NodeEvent) => void>()
  #nextSequence = 1

  constructor(options: {
    readonly clock: Clock
    readonly group: string
    readonly node: string
    readonly capacity?: number
  }) {
    this.#clock = options.clock
    this.#group = options.group
    this.#node = options.node
    this.#capacity = options.capacity ?? eventRingSize
  }

  emit(kind: EventKind, term: number, details: Readonly<Record<string, string | number | null>>): void {
    const event: NodeEvent = {
      sequence: this.#nextSequence++,
      wallMs: this.#clock.wallMs(),
      group: this.#group,
      node: this.#node,
      term,
      kind,
      details: Object.fromEntries(Object.entries(details).map(([key, value]) => [key, String(value ?? '')])),
    }
    this.#events.push(event)
    // Cut in large steps: shifting one element per event would copy the whole ring each time.
    if (this.#events.length > this.#capacity * 1.25) this.#events.splice(0, this.#events.length - this.#capacity)
    for (const listener of this.#listeners) listener(event)
  }

  /** Events still in the ring from this sequence on, oldest first. */
  since(fromSequence: number): readonly NodeEvent[] {
    return this.#events.filter((event) => event.sequence >= fromSequence)
  }

  /** Calls back for every event from now on. Returns the removal. */
  subscribe(listener: (event: NodeEvent) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }
}
