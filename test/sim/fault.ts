/**
 * Faults as data: what is broken, where, when and for how long. A run records each fault that it injects; a scenario
 * replays such a list instead of drawing, so that single faults can be left out without changing the others.
 */
import type { Purpose } from './sim-network.ts'

export const faultKinds = [
  'process_kill',
  'power_loss',
  'power_loss_at_operation',
  'kill_all',
  'power_loss_all',
  'graceful_stop',
  'pause',
  'partition',
  'one_way_cut',
  'client_cut',
  'connection_reset',
  'slow_disk',
  'sync_failure',
  'disk_full',
  'clock_jump',
  'namesrv_restart',
  'cut_off_pause',
  'cut_off_slow_disk',
  'cut_off_until_deposed',
] as const
/** What is done to the group, not only to its nodes; drawn apart. */
export const memberFaultKinds = ['wipe', 'add_node', 'remove_node', 'transfer'] as const
/** What nobody notices when it happens; drawn apart. */
export const silentFaultKinds = ['bit_rot'] as const
export type FaultKind =
  | (typeof faultKinds)[number]
  | (typeof memberFaultKinds)[number]
  | (typeof silentFaultKinds)[number]

/** `crash`: chance decides about every un-synced page; `lose_all`: nothing un-synced is left. */
export type PowerLoss = 'crash' | 'lose_all'

interface At {
  readonly atMs: number
  readonly node: string
}

export type FaultEvent =
  | (At & { readonly kind: 'process_kill'; readonly downMs: number })
  | (At & { readonly kind: 'power_loss'; readonly how: PowerLoss; readonly downMs: number })
  | (At & {
      readonly kind: 'power_loss_at_operation'
      readonly how: PowerLoss
      readonly downMs: number
      /** Changing disk operations from now on until it happens. */
      readonly operations: number
    })
  | (At & { readonly kind: 'kill_all'; readonly downMs: readonly number[] })
  | (At & { readonly kind: 'power_loss_all'; readonly how: PowerLoss; readonly downMs: readonly number[] })
  | (At & { readonly kind: 'graceful_stop'; readonly downMs: number })
  | (At & { readonly kind: 'pause'; readonly forMs: number })
  /** Paused, and for longer than that cut off from its peers, not from clients. */
  | (At & {
      readonly kind: 'cut_off_pause'
      readonly hosts: readonly string[]
      readonly forMs: number
      readonly cutMs: number
    })
  /** The network that leads to the peers and to the disk fails: cut off, with syncs that end after the cut does. */
  | (At & {
      readonly kind: 'cut_off_slow_disk'
      readonly hosts: readonly string[]
      readonly factor: number
      readonly forMs: number
    })
  /** Cut off, but not from clients, until another one has committed in a later term: that one dies, this one is back. */
  | (At & {
      readonly kind: 'cut_off_until_deposed'
      readonly hosts: readonly string[]
      readonly downMs: number
      /** At the most. */
      readonly forMs: number
    })
  | (At & { readonly kind: 'partition'; readonly hosts: readonly string[]; readonly forMs: number })
  | (At & {
      readonly kind: 'one_way_cut'
      readonly hosts: readonly string[]
      readonly purpose: Purpose | null
      readonly outgoing: boolean
      readonly forMs: number
    })
  | (At & { readonly kind: 'client_cut'; readonly forMs: number })
  | (At & { readonly kind: 'connection_reset'; readonly other: string })
  | (At & { readonly kind: 'slow_disk'; readonly factor: number; readonly forMs: number })
  | (At & { readonly kind: 'sync_failure' })
  | (At & { readonly kind: 'disk_full'; readonly forMs: number })
  | (At & { readonly kind: 'clock_jump'; readonly shiftMs: number })
  | (At & { readonly kind: 'namesrv_restart' })
  /** The disk is lost, if the group can spare it; an operator replaces it. */
  | (At & { readonly kind: 'wipe'; readonly downMs: number })
  /** Bits of committed entries flip on the disk, if the group can make it good. */
  | (At & {
      readonly kind: 'bit_rot'
      /** How far from the end of the log, 1 for its beginning. */
      readonly depth: number
      readonly entries: number
      /** Places in each frame, from 0 to 1. */
      readonly places: readonly number[]
      /** The power fails first, so that the next start meets it before anything is written behind it. Null: it does not. */
      readonly downMs: number | null
      /** The sync of the next repair fails: what it wrote is on no disk, and looks as if it were. */
      readonly failsRepair?: boolean
    })
  | (At & { readonly kind: 'add_node' | 'remove_node' | 'transfer' })
