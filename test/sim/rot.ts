/**
 * Bits that were flipped on the disks of a group, and what follows from them: which entries a disk holds but for its
 * rot, and what a node must have got back before its word counts again. Fed by the faults, asked by the judge.
 *
 * It excuses exactly the flipped bits. Whatever else is missing on a disk is as wrong as it is without rot, but for one
 * thing: a log whose end is rotten, or that a leader cuts inside damage, is cut at the next start, and what is cut counts
 * as held until the quarantine ends.
 */
import type { Replica } from '../../src/broker/replica/replica.ts'
import { segmentHeaderBytes } from '../../store/segment-header.ts'
import type { Machine } from './electorate.ts'
import type { Committed } from './judge.ts'
import type { SimNode } from './sim-node.ts'

/** Where an entry lies and what it is. */
export type Place = Pick<Committed, 'index' | 'position' | 'bytes'>

/** Indexes, both included. */
export interface Span {
  readonly from: number
  readonly to: number
}

/** One entry of one disk. */
interface Injury {
  readonly node: string
  readonly disk: string
  readonly logDirectory: string
  readonly entry: Place
  /** Bytes of the frame that were changed. */
  readonly offsets: Set<number>
}

/** Holes of a replica that the whole process could know of. */
interface KnownHoles {
  readonly replica: Replica
  /** Of the core in the instant in which they were found: a vote of this term may have been on its way. */
  readonly term: number
  readonly atMs: number
}

export interface RotPorts {
  readonly nodes: () => readonly SimNode[]
  path(machine: Machine, position: number): string
  offsetOf(position: number): number
  /** The entry lies there intact, or was given up by the group. */
  isDurableOn(machine: Machine, entry: Place): boolean
  isMember(node: SimNode): boolean
  nowMs(): number
  fail(text: string): void
}

export class Rot {
  readonly #ports: RotPorts
  #injuries: readonly Injury[] = []
  /** By node: its disk before each start with rot and each cut, until it has proved that it has everything back. */
  readonly #before = new Map<string, readonly Machine[]>()
  /** By node. */
  readonly #knownHoles = new Map<string, KnownHoles>()
  /** Entries that were damaged. */
  entries = 0

  constructor(ports: RotPorts) {
    this.#ports = ports
  }

  /** Flips one bit of an entry that lies there intact. `at`: where in the frame, from 0 to 1. */
  injure(node: SimNode, entry: Place, at: number): void {
    const bit = Math.floor(at * entry.bytes.length * 8)
    const offset = bit >> 3
    const { offsetOf, path } = this.#ports
    node.disk.flipBit(path(node, entry.position), offsetOf(entry.position) + offset, bit & 7)
    this.entries++
    const known = this.#of(node, entry.index)
    if (known) known.offsets.add(offset)
    else {
      const { name, diskId: disk, logDirectory } = node
      this.#injuries = [...this.#injuries, { node: name, disk, logDirectory, entry, offsets: new Set([offset]) }]
    }
    // One that is on its way up, or begins again once it is whole, may not have read there yet. The record on the disk
    // outlives the quarantine by some syncs.
    const status = node.broker?.replica?.raftStatus()
    if (!status || status.quarantine !== null) this.#remember(node)
  }

  /** Whether everything of the entry but flipped bits would survive a power cut. */
  isHeldBy(machine: Machine, { index, position, bytes }: Place): boolean {
    const injury = this.#of(machine, index)
    if (!injury?.entry.bytes.equals(bytes)) return false
    const { offsetOf, path } = this.#ports
    const found = machine.disk.durableRangeOf(path(machine, position), offsetOf(position), bytes.length)
    if (found.length < bytes.length) return false
    for (const offset of injury.offsets) found[offset] = bytes[offset] as number
    return found.equals(bytes)
  }

  /** Whether the entry was there when the node began to get back what rot took from it; it does not vote meanwhile. */
  wasHeldBy(machine: Machine, entry: Place): boolean {
    const before = this.#before.get(machine.name) ?? []
    return before.some((earlier) => {
      if (earlier.diskId !== machine.diskId) return false
      return this.#ports.isDurableOn(earlier, entry) || this.isHeldBy(earlier, entry)
    })
  }

  /** A process is about to begin. */
  starting(node: SimNode): void {
    this.#knownHoles.delete(node.name)
    this.#remember(node)
  }

  /** A replica is about to begin again with a log that is cut before damage. */
  cutting(node: SimNode): void {
    this.#remember(node)
  }

  /** A replica has ended and another one is about to begin in the same process: it may read what this one never did. */
  ended(node: SimNode): void {
    this.#remember(node)
  }

  #remember(node: SimNode): void {
    if (!this.#injuriesOf(node).some(({ entry }) => !this.#ports.isDurableOn(node, entry))) return
    const { name, logDirectory, diskId } = node
    const machine = { name, logDirectory, diskId, disk: node.disk.clone() }
    this.#before.set(name, [...(this.#before.get(name) ?? []), machine])
  }

  /** A replica begins. It either has everything, or has promised on its disk not to vote. */
  began(node: SimNode, replica: Replica): void {
    if (!node.quarantine?.pending) this.#before.delete(node.name)
    // One that begins with holes has no vote on its way.
    else if (replica.log.holes.length > 0)
      this.#knownHoles.set(node.name, { replica, term: 0, atMs: Number.NEGATIVE_INFINITY })
  }

  /** Whether a log that ends too early does so because its end was rotten, and the node knows it. */
  isCut(node: SimNode): boolean {
    return this.#before.has(node.name) && (node.quarantine?.untilLeaderReached ?? false)
  }

  /** Its word counts again, until other holes are found. */
  quarantineEnded(node: SimNode): void {
    this.#before.delete(node.name)
    this.#knownHoles.delete(node.name)
  }

  /** A replica has holes: it must not vote, once it has dealt with what had come before it found them. */
  seesHoles(node: SimNode, replica: Replica): void {
    const known = this.#knownHoles.get(node.name)
    const nowMs = this.#ports.nowMs()
    if (known?.replica === replica && known.atMs < nowMs) return
    // The disk tells nothing: a quarantine that has ended, and after which it voted, may still be on record there.
    const { term } = replica.raftStatus()
    this.#knownHoles.set(node.name, { replica, term, atMs: nowMs })
  }

  /** A vote leaves. */
  onVote(node: SimNode, term: number): void {
    const replica = node.broker?.replica
    const known = this.#knownHoles.get(node.name)
    if (!replica || known?.replica !== replica || known.atMs === this.#ports.nowMs()) return
    if (replica.log.holes.length === 0) this.#knownHoles.delete(node.name)
    else if (term > known.term) this.#ports.fail(`P6: ${node.name} votes in term ${term} with holes in its log`)
  }

  /** A disk is gone for good. */
  wiped(node: string): void {
    this.#injuries = this.#injuries.filter((injury) => injury.node !== node)
    this.#before.delete(node)
    this.#knownHoles.delete(node)
  }

  /**
   * First and last entry of what is rotten there. Between two headers that are lost nothing can be proven, so that all
   * of it may be one hole, however much of it is intact.
   */
  damageOf(node: SimNode): Span | null {
    const indexes = this.#injuriesOf(node)
      .filter(({ entry }) => !this.#ports.isDurableOn(node, entry))
      .map(({ entry }) => entry.index)
    return indexes.length === 0 ? null : { from: Math.min(...indexes), to: Math.max(...indexes) }
  }

  /** Why this node is not whole again, null when it is. */
  unhealed(node: SimNode): string | null {
    const injury = this.#injuriesOf(node).find(({ entry }) => !this.#ports.isDurableOn(node, entry))
    if (injury) return `entry ${injury.entry.index} of ${node.name} is rotten`
    const holes = node.broker?.replica?.log.holes ?? []
    if (holes.length > 0) return `${node.name} has holes`
    return node.quarantine?.pending || this.#before.has(node.name) ? `${node.name} is in quarantine` : null
  }

  /** Every disk of a member is whole. A node that was removed gets nothing back. */
  get isHealed(): boolean {
    if (this.entries === 0) return true
    const { nodes, isMember } = this.#ports
    return nodes().every((node) => !isMember(node) || this.unhealed(node) === null)
  }

  #of(machine: Machine, index: number): Injury | undefined {
    if (this.#injuries.length === 0) return undefined
    return this.#injuriesOf(machine).find(({ entry }) => entry.index === index)
  }

  #injuriesOf({ name, diskId, logDirectory }: Machine): readonly Injury[] {
    return this.#injuries.filter((injury) => {
      return injury.node === name && injury.disk === diskId && injury.logDirectory === logDirectory
    })
  }
}

/** Where in its segment file the frame at this position begins. */
export function fileOffsetOf(position: number, segmentBytes: number): number {
  return segmentHeaderBytes + (position % segmentBytes)
}
