/**
 * Who counts: the memberships that a group has had, and the disk of each member, wiped ones included. Fed and asked by
 * the judge; it follows what was applied and what lies in the logs, not what any replica claims to be.
 */
import { type Membership, membersOf, type PlacedMembership } from '../../src/broker/membership/membership.ts'
import type { Member } from '../../src/rpc/methods.ts'
import type { MemoryDisk } from '../../store/index.ts'
import type { SimNode } from './sim-node.ts'

/** A disk with a log on it. */
export interface Machine {
  readonly name: string
  readonly disk: MemoryDisk
  readonly logDirectory: string
  readonly diskId: string
}

/** Members of the first configuration: their disks are those that they had first. */
const firstDisk = ''

export class Electorate {
  readonly #nodes: () => readonly SimNode[]
  readonly #first: PlacedMembership
  /** As applied, ascending; the first one at 0. */
  #placed: readonly PlacedMembership[]
  /** That leaders have put into their logs, and that may still be applied; those logs may be out of reach by now. */
  #begun: readonly PlacedMembership[] = []
  /** By disk: what was on it when it was lost. */
  readonly #lost = new Map<string, Machine>()
  /** By node: the disk that it had first, if that is lost. */
  readonly #lostFirst = new Map<string, Machine>()

  constructor(nodes: () => readonly SimNode[], initial: readonly string[]) {
    this.#nodes = nodes
    const voters = initial.map((node) => ({ node, disk: firstDisk, raftAddress: '' }))
    this.#first = { index: 0, membership: { voters, outgoing: [], learners: [], returning: [], priorities: [] } }
    this.#placed = [this.#first]
  }

  /** The newest that any replica has applied. */
  get current(): PlacedMembership {
    return this.#placed.at(-1) ?? this.#first
  }

  get changes(): number {
    return this.#placed.length - 1
  }

  /** A leader has begun it: what it commits from now on counts by it (Raft section 6). */
  begun(placed: PlacedMembership): void {
    this.#begun = [...this.#begun, placed]
  }

  applied(index: number, membership: Membership): void {
    this.#placed = [...this.#placed, { index, membership }]
    this.#begun = this.#begun.filter((placed) => placed.index > index)
  }

  lost(machine: Machine): void {
    if (!this.#lostFirst.has(machine.name)) this.#lostFirst.set(machine.name, machine)
    this.#lost.set(machine.diskId, machine)
  }

  isMember(node: SimNode): boolean {
    return membersOf(this.current.membership).some((member) => this.#machineOf(member) === (node as Machine))
  }

  isVoter(node: SimNode): boolean {
    return this.current.membership.voters.some((member) => this.#machineOf(member) === (node as Machine))
  }

  get voters(): readonly string[] {
    return this.current.membership.voters.map(({ node }) => node)
  }

  /** Nothing is being changed. */
  get isSimple(): boolean {
    const { outgoing, returning, learners } = this.current.membership
    return outgoing.length === 0 && returning.length === 0 && learners.every(({ promote }) => !promote)
  }

  /**
   * Whether these hold a majority in a membership under which the entry may have been committed: the one in force at
   * the entry, or any that follows it in some log. Its leader may have died since, with the only log that has it.
   */
  isMajority(index: number, holds: (machine: Machine) => boolean): boolean {
    const from = this.#placed.findLastIndex((placed) => placed.index <= index)
    for (const { membership } of this.#placed.slice(from)) if (this.#holdsMajority(membership, holds)) return true
    const staged = this.#nodes().flatMap((node) => node.broker?.replica?.history.placed ?? [])
    return [...staged, ...this.#begun].some(({ index: at, membership }) => {
      // Where something else is committed by now, it came to nothing.
      return at > this.current.index && at >= index && this.#holdsMajority(membership, holds)
    })
  }

  #holdsMajority({ voters, outgoing }: Membership, holds: (machine: Machine) => boolean): boolean {
    return [voters, outgoing].every((half) => {
      const count = half.filter((member) => {
        const machine = this.#machineOf(member)
        return machine !== undefined && holds(machine)
      }).length
      return half.length === 0 || count * 2 > half.length
    })
  }

  #machineOf({ node, disk }: Member): Machine | undefined {
    const lost = disk === firstDisk ? this.#lostFirst.get(node) : this.#lost.get(disk)
    if (lost) return lost
    const now = this.#nodes().find(({ name }) => name === node)
    return disk === firstDisk || now?.diskId === disk ? now : undefined
  }
}
